#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what docs/performance.md reports, on this machine, and prints its tables.

  tools/measure.py [--bin DIR] [--out DIR] [--only PART[,PART]] [--seconds S]

Parts: field (fused passes, ns and cycles a word for each instruction set), linear (our exact integer
layers beside oneDNN's own primitives, same run), trusted (the trusted side alone on whole networks,
beside the same network wholly inside), network (the command, all modes, with a CPU worker), paper
(layers of the paper's micro-benchmarks, computed and checked).
Every benchmark is repeated and its median taken. Raw results go to DIR as JSON. Build first: make build.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NETWORKS = ("vgg16", "resnet50", "mobilenet")


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    for i, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if i == 0:
            print("|" + "|".join("-" * (w + 1) + (":" if c else "-") for c, w in enumerate(widths)) + "|")
    print(flush=True)


class Bench:
    def __init__(self, options):
        self.bin = options.bin
        self.out = options.out
        self.seconds = options.seconds

    def run(self, program, pattern, repetitions=3):
        """Runs the benchmarks that match and returns {name: JSON of the median}."""
        out = self.out / f"{program}.json"
        command = [self.bin / program, f"--benchmark_filter={pattern}",
                   f"--benchmark_min_time={self.seconds}", f"--benchmark_repetitions={repetitions}",
                   "--benchmark_report_aggregates_only=true", f"--benchmark_out={out}",
                   "--benchmark_out_format=json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{program} failed:\n{done.stdout[-2000:]}")
        results = {}
        for entry in json.loads(out.read_text())["benchmarks"]:
            if entry.get("aggregate_name") == "median" and not entry.get("error_occurred"):
                results[entry["run_name"].replace("/real_time", "").replace("/manual_time", "")] = entry
        return results


def field(bench):
    print("## Fused passes, one thread: ns (cycles) a word\n")
    results = bench.run("bench_field", r"(consume/.*/(verify|private)/c(64|512)/stream|"
                        r"check_input/.*/images4/stream|blind/.*/stream|pads/|send_codes)")
    rows = collections.defaultdict(dict)
    for name, r in results.items():
        parts = name.split("/")
        isa = parts[1]
        what = " ".join([parts[0], *parts[2:]])
        rows[what][isa] = f"{r['ns_word']:.3f} ({r['cycles_word']:.2f})"
    isas = [isa for isa in ("avx512ifma", "avx512", "avx2", "portable")
            if any(isa in row for row in rows.values())]
    table(["pass", *isas], [[what, *[row.get(isa, "-") for isa in isas]] for what, row in sorted(rows.items())])


def thread_counts():
    every = os.cpu_count() or 1
    return sorted({n for n in (1, 4, every) if n <= every})


def linear(bench):
    print("## Linear layers inside, images/s: ours beside oneDNN's own primitives (same run)\n")
    names = "|".join(NETWORKS)
    counts = "|".join(map(str, thread_counts()))
    results = bench.run("bench_linear", rf"^({names})/(auto/requant|no_amx/requant|onednn_direct/(u8|fp32))/"
                        rf"threads:({counts})/batch:4/")
    rows = []
    for net in NETWORKS:
        for threads in thread_counts():
            def rate(kind):
                r = results.get(f"{net}/{kind}/threads:{threads}/batch:4")
                return r["images/s"] if r else float("nan")
            ours, direct = rate("auto/requant"), rate("onednn_direct/u8")
            rows.append([net, threads, f"{ours:.1f}", f"{rate('no_amx/requant'):.1f}", f"{direct:.1f}",
                         f"{ours / direct:.2f}", f"{rate('onednn_direct/fp32'):.1f}"])
    table(["network", "threads", "int8 ours", "without AMX", "oneDNN u8s8", "ours / oneDNN", "oneDNN fp32"], rows)


def trusted(bench):
    print("## The trusted side alone, images/s (answers recorded beforehand), beside the whole network inside\n")
    names = "|".join(NETWORKS)
    counts = "|".join(map(str, thread_counts()))
    results = bench.run("bench_inference", rf"^({names})/(local|unchecked|verified|private|private_verified)/"
                        rf"threads:({counts})/batch:8/")
    rows = []
    for net in NETWORKS:
        for threads in thread_counts():
            def rate(mode):
                r = results.get(f"{net}/{mode}/threads:{threads}/batch:8")
                return r["images/s"] if r else float("nan")
            local = rate("local")
            cells = [f"{rate(m):.1f} ({rate(m) / local:.1f}x)"
                     for m in ("unchecked", "verified", "private", "private_verified")]
            rows.append([net, threads, f"{local:.1f}", *cells])
    table(["network", "threads", "inside, int8", "unchecked", "verified", "private", "private + verified"], rows)


def network(bench):
    print("## The command, with a CPU worker on the same processors: images/s\n")
    for net in NETWORKS:
        plan = bench.out / f"{net}.slalom"
        if not plan.exists():
            subprocess.run([bench.bin / "slalom", "model", net, "-o", plan], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done = subprocess.run([bench.bin / "slalom", "bench", plan, "--json", "--seconds", str(2 * bench.seconds)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"slalom bench failed:\n{done.stderr}")
        (bench.out / f"network-{net}.json").write_text(done.stdout)
        modes = json.loads(done.stdout)["modes"]
        print(net)
        table(["mode", "images/s", "with pads", "checks", "failed"],
              [[m["mode"], f"{m['images_per_s']:.1f}", f"{m['amortised_images_per_s']:.1f}",
                m["checks"]["performed"], m["checks"]["failed"]] for m in modes])


def paper(bench):
    print("## The paper's micro-benchmarks, one core: us an image, and how much faster the check is\n")
    results = bench.run("bench_paper", "paper/")
    rows = collections.defaultdict(dict)
    for name, r in results.items():
        shape, what = re.fullmatch(r"paper/(.*)/(compute|(?:preprocessed|batched)/images:\d+)", name).groups()
        rows[shape][what] = f"{r['us']:.1f}" + (f" ({r['faster']:.1f}x)" if "faster" in r else "")
    for kind in ("dense", "conv", "separable"):
        mine = {shape: row for shape, row in rows.items() if shape.startswith(kind)}
        columns = list(dict.fromkeys(what for row in mine.values() for what in row))
        table(["shape", *[c.replace("images:", "") for c in columns]],
              [[shape, *[row.get(c, "-") for c in columns]] for shape, row in mine.items()])


PARTS = {"field": field, "linear": linear, "trusted": trusted, "network": network, "paper": paper}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin", help="the programs")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/measure", help="raw results")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--seconds", type=float, default=0.5, help="least time of one repetition")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.only.split(",")
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]}; there are {', '.join(PARTS)}")
    bench = Bench(options)
    cpu = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown processor")
    print(f"{cpu}, {os.cpu_count()} processors\n")
    for part in wanted:
        PARTS[part](bench)


if __name__ == "__main__":
    main()
