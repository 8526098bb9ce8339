#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws every plot of measured rates and prints their tables, from the JSON in bench/results/.

  tools/plots.py [--out docs/figures] [--no-plots] [FILE.json ...]

It takes results of bench/peers/run.py and of `slalom bench --json` (one object, a list of them, or objects
under "runs" or by network under "networks"); other files are passed over. The first word of a file's name,
up to the first "-", is the machine: small-peers.json and small-network.json are drawn together. Of
several results for the same thing those of the most rounds count, of these the fastest (batches were tried to
find the best). The same JSON and the same matplotlib give the same bytes.
"""
import argparse
import collections
import dataclasses
import json
import pathlib
import re
import sys
import textwrap
from typing import Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
NETWORKS = ("vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "inception_v3",
            "mobilenet", "mobilenet_sep")
LIBRARIES = {"torch": "PyTorch", "ort": "ONNX Runtime", "openvino": "OpenVINO"}
INSIDE = {"float32 baseline": "fp32", "trusted only, int8": "int8"}
SHOWN = {"float32 baseline": "ours inside, fp32", "trusted only, int8": "ours inside, int8"}
PAIRED = {"x_int8": "trusted only, int8", "x_fp32": "float32 baseline"}
MARKERS = {"batched": "s", "plain": "v", "split": "D"}
INK, FAINT, GRID = "#1f2933", "#616e7c", "#e4e7eb"


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


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def threads_text(n):
    return "threads not recorded" if n == 0 else f"{n} thread{'' if n == 1 else 's'}"


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    for i, row in enumerate(rows):
        print("| " + " | ".join([row[0].ljust(widths[0])] +
                                [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]) + " |")
        if i == 0:
            print("|" + "|".join("-" * (w + 1) + (":" if c else "-") for c, w in enumerate(widths)) + "|")
    print()


def print_tables(rows):
    found = cases(rows)
    for machine, model in dict.fromkeys((r.machine, r.model) for r in rows):
        mine = {t: c for (ma, mo, t), c in found.items() if (ma, mo) == (machine, model)}
        print(f"## {model}, {machine}: images/s (times the strongest that stays inside)\n")
        labels = dict.fromkeys(r.label for r in rows if (r.machine, r.model) == (machine, model)
                               and r.group != "gpu")
        body = []
        for label in labels:
            line = [SHOWN.get(label, label)]
            for case in mine.values():
                row = next((r for r in case.rows if r.label == label), None)
                text = "-"
                if row:
                    text = number(row.rate)
                    if row.amortised:
                        text += f" [{number(row.amortised)}]"
                    if case.baseline and (row.group == "split" or row is case.baseline):
                        text += f" ({case.ratio(row):.2f}x)"
                line.append(text)
            body.append(line)
        if body:
            table(["", *[threads_text(t) for t in mine]], body)
        top = ceiling(rows, machine, model)
        if top:
            print(f"{top.label}, nothing protected: {number(top.rate)} images/s ({top.note})\n")
        late = [[name_of(r), r.threads or "?", f"{r.latency[0]:.2f}", f"{r.latency[1]:.2f}"] for r in rows
                if r.latency and (r.machine, r.model) == (machine, model)]
        if late:
            table(["one image at a time", "threads", "p50 ms", "p99 ms"], late)
        moved = [[name_of(r), r.threads or "?", f"{r.memory / 1e6:,.0f}" if r.memory else "-",
                  *([f"{b / 1e6:.2f}" for b in r.link[:2]] + [f"{g:.2f}" for g in r.link[2:]] if r.link else "----")]
                 for r in rows if (r.memory or r.link) and (r.machine, r.model) == (machine, model)]
        if moved:
            table(["memory and link", "threads", "trusted MB", "out MB/image", "in MB/image", "out GB/s", "in GB/s"],
                  moved)
    if any(r.amortised for r in rows):
        print("[In brackets: with the time in which pads were made.]\n")


# ---- drawing

def colour(row):
    if row.group == "gpu":
        return "#d9b44a"
    if row.group == "peer":
        return {"int8": "#7b8794", "bf16": "#a3adb8"}.get(row.precision, "#c9d0d7")
    if row.group == "inside":
        return "#2b7bba" if row.precision == "int8" else "#9fc5e8"
    if "private" in row.label:
        return "#c4572e" if "verified" in row.label else "#8e5bb5"
    return "#2e9e6b" if "verified" in row.label else "#9ad0b5"


class Drawing:
    def __init__(self, folder, machines):
        import matplotlib
        matplotlib.use("svg")
        from matplotlib import pyplot
        matplotlib.rcParams.update({
            "svg.hashsalt": "slalom", "svg.fonttype": "none", "font.size": 9, "text.color": INK,
            "font.family": ["DejaVu Sans"], "axes.edgecolor": FAINT, "axes.labelcolor": INK,
            "xtick.color": FAINT, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
            "figure.facecolor": "white", "axes.facecolor": "white", "legend.frameon": False})
        self.pyplot, self.folder, self.machines, self.written = pyplot, folder, machines, []

    def on(self, machine):
        return f"({self.machines.get(machine) or machine + ' machine'})"

    def save(self, figure, name):
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        self.pyplot.close(figure)
        # A reader without this font gets one of the same widths.
        text = path.read_text().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
        path.write_text("".join(line.rstrip() + "\n" for line in text.splitlines()))
        self.written.append(path)

    def bars(self, machine, model, mine, top):
        """One panel for each number of threads; a bar for each engine and mode."""
        height = max(len(c.rows) for c in mine.values())
        figure, axes = self.pyplot.subplots(1, len(mine), squeeze=False,
                                            figsize=(max(7.5, 5.2 * len(mine)), 1.3 + 0.27 * height),
                                            layout="constrained")
        for axis, (threads, case) in zip(axes[0], mine.items()):
            self.panel(axis, case)
            title = threads_text(threads)
            if case.baseline:
                title += f"\ndashed: the strongest inside, {name_of(case.baseline)}"
            axis.set_title(title, fontsize=9, loc="left")
        title = f"{model}, images/s {self.on(machine)}"
        if top:
            title += f"; {top.label}, nothing protected: {number(top.rate)}"
        self.headline(figure, title)
        self.save(figure, f"{machine}-{model}")

    @staticmethod
    def headline(figure, text):
        """Some 11 characters of this size fill an inch."""
        figure.suptitle(textwrap.fill(text, int(11 * figure.get_figwidth())), fontsize=11, x=0.01, ha="left")

    def panel(self, axis, case):
        rows = case.rows
        longest = max(r.rate for r in rows)
        for y, row in enumerate(rows):
            axis.barh(y, row.rate, color=colour(row), height=0.72, zorder=2)
            if row.amortised:
                axis.barh(y, row.rate - row.amortised, left=row.amortised, color="white", alpha=0.55,
                          height=0.72, zorder=3)
            if row.spread:
                axis.plot(row.spread, (y, y), color=INK, linewidth=1, zorder=4)
            text = number(row.rate)
            if row.amortised:
                text += f" ({number(row.amortised)} with pads)"
            ratio = case.ratio(row)
            strong = row.group == "split" and ratio is not None
            if strong:
                text += f"  {ratio:.2f}x"
                if case.fp32:
                    text += f", {times(row, case.fp32):.1f}x fp32"
            end = max(row.rate, row.spread[1] if row.spread else 0)
            axis.text(end + 0.012 * longest, y, text, va="center", fontsize=8, zorder=5,
                      fontweight="bold" if strong and ratio >= 1 else "normal",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})
        axis.set_yticks(range(len(rows)), [name_of(r) for r in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 2.0 * longest)
        axis.xaxis.grid(True, color=GRID, zorder=0)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("images/s; bold: beats the dashed line, by so much" if case.baseline else "images/s")
        if case.baseline:
            axis.axvline(case.baseline.rate, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)

    def scaling(self, machine, models):
        """Rates over trusted threads, a panel for each network; only where there are several counts."""
        figure, axes = self.pyplot.subplots(1, len(models), squeeze=False, layout="constrained",
                                            figsize=(max(6, 4.4 * len(models)), 4.2))
        seen = {}
        for axis, (model, mine) in zip(axes[0], models.items()):
            lines = collections.defaultdict(list)
            for threads, case in mine.items():
                for row in case.rows:
                    if row.group != "peer":
                        lines[name_of(row), colour(row), "-"].append((threads, row.rate))
                peers = [r for r in case.rows if r.group == "peer"]
                for precision in ("fp32", "int8"):
                    some = [r.rate for r in peers if r.precision == precision]
                    if some:
                        shade = "#7b8794" if precision == "int8" else "#c9d0d7"
                        lines[f"best peer, {precision}", shade, "--"].append((threads, max(some)))
            for (label, shade, style), points in lines.items():
                marker = next((m for word, m in MARKERS.items() if word in label), "o")
                line, = axis.plot(*zip(*sorted(points)), marker=marker, markersize=4.5, color=shade,
                                  linestyle=style, label=label)
                seen.setdefault(label, line)
            ticks = sorted(mine)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(ticks, [str(t) for t in ticks])
            axis.minorticks_off()
            low, high = axis.get_ylim()
            marks = [m * 10 ** e for e in range(-1, 6) for m in (1, 2, 5) if low <= m * 10 ** e <= high]
            axis.set_yticks(marks, [f"{m:,g}" for m in marks])
            axis.grid(True, color=GRID)
            axis.set_title(model, fontsize=10, loc="left")
            axis.set_xlabel("trusted threads")
        axes[0][0].set_ylabel("images/s")
        self.headline(figure, f"Rates over trusted threads {self.on(machine)}")
        figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=4, fontsize=8)
        self.save(figure, f"{machine}-threads")

    def latency(self, machine, models):
        """One image at a time: p50 as a dot, a line to p99; the number of threads that is fastest."""
        height = max(len(rows) for rows in models.values())
        figure, axes = self.pyplot.subplots(1, len(models), squeeze=False, layout="constrained",
                                            figsize=(max(6, 4.8 * len(models)), 1.4 + 0.27 * height))
        for axis, (model, rows) in zip(axes[0], models.items()):
            for y, row in enumerate(rows):
                axis.plot(row.latency, (y, y), color=colour(row), linewidth=2.2, zorder=2)
                axis.plot(row.latency[0], y, "o", color=colour(row), markersize=6, zorder=3)
                axis.annotate(f"{row.latency[0]:.2f}", (max(row.latency), y), xytext=(5, 0), va="center",
                              textcoords="offset points", fontsize=8)
            axis.set_xscale("log")
            low, high = (f(v for r in rows for v in r.latency) for f in (min, max))
            axis.set_xlim(low / 1.3, high * 2)
            marks = [m * 10 ** e for e in range(-3, 6) for m in (1, 2, 5)
                     if low / 1.3 <= m * 10 ** e <= high * 2]
            axis.minorticks_off()
            axis.set_xticks(marks, [f"{m:g}" for m in marks])
            axis.set_yticks(range(len(rows)), [f"{name_of(r)}, {threads_text(r.threads)}" for r in rows])
            axis.set_ylim(len(rows) - 0.4, -0.6)
            axis.tick_params(axis="y", length=0)
            axis.xaxis.grid(True, color=GRID, zorder=0)
            axis.set_title(model, fontsize=10, loc="left")
            axis.set_xlabel("ms an image: p50 (dot) to p99")
        self.headline(figure, f"One image at a time {self.on(machine)}")
        self.save(figure, f"{machine}-latency")


def name_of(row):
    return SHOWN.get(row.label, row.label)


def draw(rows, folder, machines):
    drawing = Drawing(folder, machines)
    found = cases(rows)
    for machine in dict.fromkeys(r.machine for r in rows):
        models = {}
        for model in dict.fromkeys(r.model for r in rows if r.machine == machine):
            mine = {t: c for (ma, mo, t), c in found.items() if (ma, mo) == (machine, model)}
            if mine:
                models[model] = mine
                drawing.bars(machine, model, mine, ceiling(rows, machine, model))
        several = {model: mine for model, mine in models.items() if len(mine) > 1}
        if several:
            drawing.scaling(machine, several)
        late = {}
        for model in models:
            quickest = {}
            for r in rows:
                if r.latency and (r.machine, r.model) == (machine, model):
                    key = r.group, r.label
                    if key not in quickest or r.latency < quickest[key].latency:
                        quickest[key] = r
            if quickest:
                late[model] = sorted(quickest.values(), key=lambda r: (place(r)[4:], r.threads))
        if late:
            drawing.latency(machine, late)
    return drawing.written


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path, help="all of bench/results/ if none is named")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/figures")
    parser.add_argument("--no-plots", action="store_true", help="tables only; needs no matplotlib")
    options = parser.parse_args()
    rows, passed_over, machines = [], [], {}
    for path in sorted(options.files or (ROOT / "bench/results").glob("*.json")):
        try:
            got = read(path, machines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.exit(f"{path}: {type(error).__name__}: {error}")
        rows += got or []
        if got is None:
            passed_over.append(path.name)
    if not rows:
        sys.exit("no file has results that this program knows")
    rows = best_of(rows)
    for machine in dict.fromkeys(r.machine for r in rows):
        if machines.get(machine):
            print(f"{machine}: {machines[machine]}\n")
    print_tables(rows)
    if not options.no_plots:
        try:
            written = draw(rows, options.out, machines)
        except ImportError as error:
            sys.exit(f"no plots: {error}; pip install matplotlib, or --no-plots")
        for path in written:
            print(path)
    if passed_over:
        print(f"passed over: {', '.join(passed_over)}", file=sys.stderr)


if __name__ == "__main__":
    main()
