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
import pathlib
import sys

from plot_drawing import draw
from plot_rows import best_of, cases, ceiling, name_of, number, read, SHOWN, threads_text

ROOT = pathlib.Path(__file__).resolve().parent.parent


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
