#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures other inference engines on the processor cores that Slalom is measured on; see README.md.

  bench/peers/run.py [--models vgg16,resnet50,mobilenet] [--threads 1,4,16] [--batches 1,8,32]
                     [--only torch,ort,openvino,gpu] [--seconds 0.3] [--out FILE.json]

Every engine runs in a process of its own, bound to the first N cores. For each network and number of
threads all engines are loaded, then take turns: each repetition goes once through all of them, and those
whose turn it is not are stopped. A result that FILE has already is not measured again; to repeat it, remove
it from FILE. Exit status: 0 if every engine was measured or is missing with a reason, 1 if one failed.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

from processes import SLALOM_PEERS, Broken, Failure, Slalom, Worker

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FAMILIES = ("torch", "ort", "openvino", "gpu", "slalom")
PACKAGES = ("torch", "onnxruntime", "onnx", "openvino", "numpy")
CPU_PEERS = ("torch-fp32", "torch-bf16", "torch-int8-x86", "torch-int8-onednn", "ort-fp32",
             "ort-int8-u8s8", "ort-int8-s8s8", "openvino-fp32", "openvino-bf16", "openvino-int8")
GPU_PEERS = ("gpu-fp32", "gpu-tf32", "gpu-fp16", "gpu-int8")
ALL_PEERS = (*CPU_PEERS, *GPU_PEERS, *SLALOM_PEERS)
GPU_BATCHES = (1, 32, 128, 256)
HOPELESS = 0.8  # of the best first estimate: a batch size below is not measured further


class Contest:
    """All engines on one network with one number of threads."""

    def __init__(self, model, threads, peers, options):
        self.model, self.threads, self.options = model, threads, options
        self.cores = sorted(os.sched_getaffinity(0))[:threads]
        self.workers, self.results = {}, {}
        self.peers = peers

    def key(self, peer):
        return f"{self.model}/{self.threads}/{peer}"

    def base(self, peer):
        return {"model": self.model, "threads": self.threads, "peer": peer, "cores": self.cores,
                "date": now(), "commit": commit(), "seconds": self.options.seconds}

    def give_up(self, peer, status, error):
        self.results[peer] = {**self.base(peer), "status": status, "error": error[:2000]}
        print(f"  {peer}: {status}: {error[:200]}", flush=True)
        worker = self.workers.pop(peer, None)
        if worker:
            worker.close()

    def configs(self, peer):
        """(batch, streams) in the order in which they are tried; streams share the threads evenly."""
        if peer in GPU_PEERS:
            return [(b, 1) for b in GPU_BATCHES] + [(b, 2) for b in GPU_BATCHES if b > 1]
        out = [(b, 1) for b in self.options.batches]
        if peer.startswith("slalom"):
            return out  # its own pipeline spreads a batch
        few = [b for b in self.options.batches if b <= 8]
        for streams in sorted({self.threads // 4, self.threads} - {0, 1}):
            out += [(b, streams) for b in few]
        return out

    def start(self, log):
        for peer in self.peers:
            if peer in SLALOM_PEERS:
                self.workers[peer] = Slalom(peer, self.model, self.cores, self.options)
            else:
                self.workers[peer] = Worker(peer, self.model, self.options.folder, self.cores, log)
        for peer in self.peers:
            try:
                made = self.workers[peer].made(self.options.timeout)
            except Failure as error:
                self.give_up(peer, "failed", str(error))
                continue
            if made["status"] == "unavailable":
                self.give_up(peer, "unavailable", made["error"])
                continue
            self.results[peer] = {**self.base(peer), **made, "configs": []}

    def warm(self, peer):
        """Gives every batch size a first run, and keeps those that may be the best."""
        configs, rate = [], None
        for batch, streams in self.configs(peer):
            config = {"batch": batch, "streams": streams}
            if rate and batch * streams / rate > self.options.longest_call:
                config["skipped"] = f"one call would take about {batch * streams / rate:.1f} s"
            else:
                try:
                    first = self.workers[peer].order(self.options.timeout, do="warm", batch=batch,
                                                     streams=streams, seconds=self.options.seconds / 2)
                    config.update(estimate=first["images_per_s"], cosine=first.get("cosine"),
                                  builds=first.get("builds"))
                    rate = config["estimate"] if streams == 1 else rate
                except Failure as error:
                    if isinstance(error, Broken) or (batch == 1 and streams == 1):
                        raise
                    config["skipped"] = f"failed: {error}"
            configs.append(config)
        best = max(c.get("estimate", 0) for c in configs)
        for c in configs:
            alone = c["batch"] == 1 and c["streams"] == 1  # its latency is wanted in any case
            if "estimate" in c and c["estimate"] < HOPELESS * best and not alone:
                c["skipped"] = "slower than another batch size by far"
        return configs

    def run(self):
        options = self.options
        with open(options.folder / "workers.log", "a") as log:
            try:
                begun = time.monotonic()
                self.start(log)
                loaded = time.monotonic()
                for peer in list(self.workers):
                    try:
                        self.results[peer]["configs"] = self.warm(peer)
                    except Failure as error:
                        self.give_up(peer, "failed", str(error))
                warmed = time.monotonic()
                for _ in range(options.repetitions):
                    for peer in list(self.workers):
                        self.repeat(peer)
                print(f"  loaded in {loaded - begun:.0f} s, warm after {warmed - loaded:.0f} s, "
                      f"measured in {time.monotonic() - warmed:.0f} s", flush=True)
                for peer in list(self.workers):
                    self.finish(peer)
            finally:
                for worker in self.workers.values():
                    worker.close()
        return {self.key(peer): result for peer, result in self.results.items()}

    def repeat(self, peer):
        for config in self.results[peer]["configs"]:
            if "skipped" in config:
                continue
            try:
                got = self.workers[peer].order(self.options.timeout, do="measure", batch=config["batch"],
                                               streams=config["streams"], seconds=self.options.seconds)
            except Failure as error:
                self.give_up(peer, "failed", str(error))
                return
            config.setdefault("repetitions", []).append(round(got["images"] / got["wall_s"], 3))
            if config["batch"] == 1 and got.get("calls_ms"):
                config.setdefault("calls_ms", []).extend(got["calls_ms"])

    def finish(self, peer):
        result = self.results[peer]
        try:
            result.update(self.workers[peer].order(self.options.timeout, do="finish"))
        except Failure as error:
            return self.give_up(peer, "failed", str(error))
        measured = [c for c in result["configs"] if c.get("repetitions")]
        for config in measured:
            config["images_per_s"] = statistics.median(config["repetitions"])
            calls = sorted(config.pop("calls_ms", []))
            if len(calls) > 1:
                cuts = statistics.quantiles(calls, n=100, method="inclusive")
                result["latency_ms"] = {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4),
                                        "calls": len(calls)}
        best = max(measured, key=lambda c: c["images_per_s"])
        result.update({k: best[k] for k in ("images_per_s", "repetitions", "batch", "streams")})
        latency = result.get("latency_ms", {}).get("p50")
        print(f"  {peer}: {best['images_per_s']:.1f} images/s (batch {best['batch']}, streams "
              f"{best['streams']}){f', {latency:.2f} ms at batch 1' if latency else ''}", flush=True)
        return None


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    return os.environ.get("SLALOM_COMMIT", "unknown")


def machine():
    fields = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    out = {"cpu": fields.get("model name", platform.machine()), "cores": len(os.sched_getaffinity(0)),
           "flags": fields.get("flags", ""), "kernel": platform.release(),
           "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)}
    siblings = pathlib.Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    if siblings.exists():
        out["siblings_of_core_0"] = siblings.read_text().strip()
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                                capture_output=True, text=True)
        if listed.returncode == 0:
            out["gpus"] = listed.stdout.strip().splitlines()
    except FileNotFoundError:
        pass
    return out


def versions():
    out = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            out[package] = None
    return out


def load(path):
    fresh = {"format": "slalom-peers", "version": 1, "machine": machine(), "versions": versions(),
             "commit": commit(), "date": now(), "results": {}}
    if not path.exists():
        return fresh
    old = json.loads(path.read_text())
    for what in ("machine", "versions"):
        a, b = old[what], fresh[what]
        differ = [k for k in b if k not in ("kernel", "memory_gib", "gpus")
                  and a.get(k) is not None and a.get(k) != b[k]]
        if differ:
            sys.exit(f"{path} is of another machine or of other packages ({', '.join(differ)} differ); "
                     "choose another --out")
        a.update(b)
    return old


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    os.replace(partial, path)


def measured(data, key):
    return data["results"].get(key, {}).get("status") == "ok"


def matches(peer, only):
    """"ort" and "ort-int8" both mean ort-int8-u8s8."""
    return any(peer == word or peer.startswith(word + "-") for word in only)


def wanted(options):
    """[(model, threads, peers)], smallest networks first."""
    cores = len(os.sched_getaffinity(0))
    out = []
    for model in options.models:
        for threads in options.threads:
            if threads > cores:
                print(f"{model}: {threads} threads left out, this machine has {cores} cores")
                continue
            peers = [p for p in CPU_PEERS if matches(p, options.only)]
            if options.slalom:
                peers += [p for p in SLALOM_PEERS if matches(p, options.only)]
            out.append((model, threads, peers))
        # A GPU needs one core to feed it; its figures are filed under one thread.
        out.append((model, 1, [p for p in GPU_PEERS if matches(p, options.only)]))
    return [o for o in out if o[2]]


def prepare(models, options, onnx):
    options.folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        print(f"{model}: weights{' and ONNX files' if onnx else ''}", flush=True)
        command = [sys.executable, HERE / "prepare.py", model, options.folder]
        done = subprocess.run(command + ([] if onnx else ["--without-onnx"]),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{model} could not be prepared:\n{done.stdout[-3000:]}")


def words(text):
    return [w for w in text.split(",") if w]


def numbers(text):
    return [int(w) for w in words(text)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=words, default=["mobilenet", "resnet50", "vgg16"])
    parser.add_argument("--threads", type=numbers, default=[1, 4, 16])
    parser.add_argument("--batches", type=numbers, default=[1, 8, 32])
    parser.add_argument("--only", type=words, default=list(FAMILIES),
                        help=f"families ({', '.join(FAMILIES)}), or parts of them (ort-int8), or engines")
    parser.add_argument("--seconds", type=float, default=0.3, help="least time of one repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--longest-call", type=float, default=1.0,
                        help="a batch that would take longer than so many seconds is left out")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one step of one engine")
    parser.add_argument("--budget", type=float, help="after so many seconds nothing new is begun")
    parser.add_argument("--slalom", type=pathlib.Path, metavar="PROGRAM",
                        help="measure ours as well, with this program")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/peers", help="networks and logs")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/peers/peers.json")
    options = parser.parse_args()
    for word in options.only:
        if word not in FAMILIES and not any(matches(peer, [word]) for peer in ALL_PEERS):
            parser.error(f"nothing is called {word}; there are {', '.join(ALL_PEERS)}")
    return options


def main():
    options = arguments()
    begun = time.monotonic()
    data = load(options.out)
    todo = []
    for model, threads, peers in wanted(options):
        missing = [p for p in peers if not measured(data, f"{model}/{threads}/{p}")]
        if missing:
            todo.append((model, threads, missing))
    onnx = any(p.startswith(("ort", "openvino")) for _, _, peers in todo for p in peers)
    prepare(dict.fromkeys(model for model, _, _ in todo), options, onnx)
    failed = False
    for i, (model, threads, peers) in enumerate(todo):
        if i and options.budget and time.monotonic() - begun > options.budget:
            print(f"time is up: {len(todo) - i} of {len(todo)} parts are left; the same command goes on")
            return 75
        print(f"{model}, {threads} thread{'s' if threads > 1 else ''}", flush=True)
        results = Contest(model, threads, peers, options).run()
        failed |= any(r["status"] == "failed" for r in results.values())
        data["results"].update(results)
        save(options.out, data)
    print(f"{len(data['results'])} results in {options.out}, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
