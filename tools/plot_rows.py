# SPDX-License-Identifier: Apache-2.0
"""The rows of tools/plots.py: what was measured, read from JSON, and what it is held against. Standard library only."""
import collections
import dataclasses
import json
import pathlib
import re
from typing import Optional

NETWORKS = ("vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "inception_v3",
            "mobilenet", "mobilenet_sep")
LIBRARIES = {"torch": "PyTorch", "ort": "ONNX Runtime", "openvino": "OpenVINO"}
INSIDE = {"float32 baseline": "fp32", "trusted only, int8": "int8"}
SHOWN = {"float32 baseline": "ours inside, fp32", "trusted only, int8": "ours inside, int8"}
PAIRED = {"x_int8": "trusted only, int8", "x_fp32": "float32 baseline"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured thing. group: peer, inside (ours, no device), split (ours, with a device), gpu."""
    machine: str
    model: str
    threads: int
    group: str
    label: str
    precision: str
    rate: float
    spread: Optional[tuple] = None     # slowest and fastest repetition
    amortised: Optional[float] = None  # with the time in which pads were made
    latency: Optional[tuple] = None    # p50 and p99 in ms, batch 1
    pairs: Optional[dict] = None       # median ratio to each baseline of the same rounds, by its label
    memory: Optional[float] = None     # the most that the trusted process held, bytes
    link: Optional[tuple] = None       # bytes out and in for an image, 10^9 bytes a second out and in
    note: str = ""
    rounds: int = 1                    # interleaved with the baselines

    @property
    def trusted(self):
        return self.group in ("peer", "inside")


# ---- reading

def peer_rows(machine, data):
    for result in data["results"].values():
        if result["status"] != "ok":
            continue
        family, _, precision = result["peer"].partition("-")
        precision = precision.split("-")[0]
        group, label = "peer", f"{LIBRARIES.get(family, family)} {precision}"
        if family == "gpu":
            group, label = "gpu", f"plain GPU, {precision}"
        elif family == "slalom":
            group = "inside"
            label = next(name for name, p in INSIDE.items() if p == precision)
        latency = result.get("latency_ms")
        yield Row(machine, result["model"], result["threads"], group, label, precision, result["images_per_s"],
                  spread=(min(result["repetitions"]), max(result["repetitions"])),
                  latency=(latency["p50"], latency["p99"]) if latency else None,
                  note=f"{result['peer']}, batch {result['batch']}, {result['streams']} streams")


def find(objects, *names):
    """The first of these names that one of the objects has."""
    for thing in objects:
        for name in names:
            if isinstance(thing, dict) and thing.get(name) is not None:
                return thing[name]
    return None


def latency_of(row):
    inner = find([row, row.get("timing")], "latency_ms", "latency")
    if isinstance(inner, dict) and "p50" in inner:
        return inner["p50"], inner.get("p99", inner["p50"])
    p50 = find([row, row.get("timing")], "latency_p50_ms", "p50_ms")
    return (p50, find([row, row.get("timing")], "latency_p99_ms", "p99_ms") or p50) if p50 else None


def pairs_of(row):
    """Ratios that were taken round by round, where a run had several rounds."""
    ratios = {label: row[key]["median"] for key, label in PAIRED.items() if row.get(key)}
    return ratios if len(row.get("repetitions") or []) > 1 else None


def link_of(row):
    link = row.get("link")
    if not isinstance(link, dict) or not link.get("in_gb_per_s"):
        return None
    return tuple(link[k] for k in ("bytes_out_per_image", "bytes_in_per_image", "out_gb_per_s", "in_gb_per_s"))


def bench_rows(machine, data, whole):
    """Rows of one `slalom bench`; `whole` is the file around it, which may know more."""
    model = pathlib.Path(data["model"]).stem
    for row in data["modes"]:
        if not row.get("images_per_s"):
            continue
        threads = find([row, data, data.get("settings"), whole], "trusted_threads", "threads")
        if threads is None:
            cores = find([data.get("machine"), whole.get("machine")], "cores")
            text = str(whole.get("machine", ""))
            found = re.search(r"(\d+) [a-z ]*cores", text)
            threads = cores or (int(found.group(1)) if found else 0)
        mode = row["mode"]
        pads = row.get("amortised_images_per_s") if "private" in mode else None
        spread = row.get("repetitions")
        batch = find([row, data], "micro_batch", "batch")
        yield Row(machine, model, int(threads), "inside" if mode in INSIDE else "split", mode,
                  INSIDE.get(mode, "int8"), row["images_per_s"],
                  spread=(min(spread), max(spread)) if isinstance(spread, list) and spread and
                  all(isinstance(r, (int, float)) for r in spread) else None,
                  amortised=pads if pads and pads < 0.999 * row["images_per_s"] else None,
                  latency=latency_of(row), note=f"micro-batch {batch}" if batch else "",
                  rounds=len(spread) if isinstance(spread, list) else 1,
                  pairs=pairs_of(row), memory=find([row.get("memory")], "trusted_peak_bytes"), link=link_of(row))


def machine_text(machine):
    """What a file says of the machine, in a few words."""
    if not isinstance(machine, dict):
        return machine or ""
    parts = [str(machine[k]) for k in ("cpu", "model") if machine.get(k)][:1]
    parts += [f"{machine['cores']} cores"] if machine.get("cores") else []
    return ", ".join(parts + sorted({g.split(",")[0] for g in machine.get("gpus", [])}))


def read(path, machines):
    """All rows of a file, or None if it is of another kind. machines gets what it says of its machine."""
    data = json.loads(path.read_text())
    machine = path.stem.split("-")[0]
    if isinstance(data, dict) and data.get("machine"):
        known = data.get("format") == "slalom-peers" or "networks" in data or "runs" in data or "modes" in data
        text = machine_text(data["machine"])
        if known and len(text) > len(machines.get(machine, "")):
            machines[machine] = text
    if isinstance(data, dict) and data.get("format") == "slalom-peers":
        return list(peer_rows(machine, data))
    whole = data if isinstance(data, dict) else {}
    runs = data if isinstance(data, list) else whole.get("runs", [data])
    if isinstance(whole.get("networks"), dict):
        runs = [{"model": name, "modes": modes} if isinstance(modes, list) else {"model": name, **modes}
                for name, modes in whole["networks"].items()]
    if not isinstance(runs, list):
        return None
    runs = [r for r in runs if isinstance(r, dict) and isinstance(r.get("modes"), list) and "model" in r]
    return [row for run in runs for row in bench_rows(machine, run, whole)] or None


def best_of(rows):
    """One row for each thing: of the most rounds its fastest, with the lowest latency that was seen."""
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row.machine, row.model, row.threads, row.group, row.label].append(row)
    out = []
    for same in groups.values():
        best = max(same, key=lambda r: (r.rounds, r.rate, r.note))
        latency = min((r.latency for r in same if r.latency), default=None)
        out.append(dataclasses.replace(best, latency=latency))
    return sorted(out, key=place)


def place(row):
    """The order of things in tables and plots."""
    modes = ["float32 baseline", "trusted only, int8", "unchecked", "verified, preprocessed"]
    group = ("peer", "inside", "split", "gpu").index(row.group)
    model = NETWORKS.index(row.model) if row.model in NETWORKS else len(NETWORKS)
    precision = ("fp32", "tf32", "bf16", "fp16", "int8").index(row.precision)
    mode = modes.index(row.label) if row.label in modes else len(modes)
    if row.group == "split":
        mode += 10 * ("private" in row.label)
    return (row.machine, model, row.model, row.threads, group, precision, mode, row.label)


# ---- what is compared

def times(row, baseline):
    """How many times as fast; from pairs of the same rounds where there are some."""
    if baseline is None:
        return None
    if baseline.group == "inside" and row.pairs and baseline.label in row.pairs:
        return row.pairs[baseline.label]
    return row.rate / baseline.rate


class Case:
    """All rows of one machine, network and number of threads, and what they are held against."""

    def __init__(self, rows):
        self.rows = rows
        trusted = [r for r in rows if r.trusted]
        self.baseline = max(trusted, key=lambda r: r.rate, default=None)
        self.fp32 = max((r for r in trusted if r.precision == "fp32" and r.group == "inside"),
                        key=lambda r: r.rate, default=None)

    def ratio(self, row):
        return times(row, self.baseline)


def cases(rows):
    grouped = collections.defaultdict(list)
    for row in rows:
        grouped[row.machine, row.model, row.threads].append(row)
    out = {}
    for (machine, model, threads), mine in grouped.items():
        if any(r.group != "gpu" for r in mine):
            out[machine, model, threads] = Case([r for r in mine if r.group != "gpu"])
    return out


def ceiling(rows, machine, model):
    """The fastest unprotected GPU run."""
    return max((r for r in rows if (r.machine, r.model, r.group) == (machine, model, "gpu")),
               key=lambda r: r.rate, default=None)


# ---- in words

def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def threads_text(n):
    return "threads not recorded" if n == 0 else f"{n} thread{'' if n == 1 else 's'}"


def name_of(row):
    return SHOWN.get(row.label, row.label)
