#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: a pretrained ImageNet network, real photographs, four modes, then a device that lies.

`make demo` installs and builds what this needs. Everything is done by the slalom command; this script
only calls it and lays out what it says. Needs nothing but Python's standard library.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "build/release/bin"
NETWORK = ROOT / "models/efficientnet_lite0"
PHOTOS = ROOT / "models/photos"
PLAN = ROOT / "build/demo/efficientnet_lite0.slalom"
REPEAT = 4  # every photograph is classified so often, to have a rate worth printing

MODES = [
    ("trusted only", ["--integrity", "off", "--device", "none"]),
    ("verified", []),
    ("private", ["--privacy", "pads", "--integrity", "off"]),
    ("private + verified", ["--privacy", "pads"]),
]

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def title(text):
    print("\n" + styled("1;36", text), flush=True)


def say(text):
    print(text, flush=True)


def slalom(*words, expect=0):
    """Runs a slalom command and returns what it printed; stops the demo on another exit status."""
    command = [str(BIN / "slalom"), *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=None if expect == 0 else subprocess.PIPE, text=True)
    if done.returncode != expect:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}, expected {expect}\n"
                 f"{done.stdout}{done.stderr or ''}")
    return done


def table(head, rows, indent="  "):
    """Prints aligned columns; all but the first are right-aligned."""
    widths = [max(len(str(row[c])) for row in [head, *rows]) for c in range(len(head))]

    def line(row):
        cells = [str(cell).ljust(w) if c == 0 else str(cell).rjust(w)
                 for c, (cell, w) in enumerate(zip(row, widths))]
        return indent + "  ".join(cells).rstrip()

    print(styled("1", line(head)))
    for row in rows:
        print(line(row))
    sys.stdout.flush()


def convert():
    source = NETWORK / "model.onnx"
    if PLAN.exists() and PLAN.stat().st_mtime > max(
            source.stat().st_mtime, (BIN / "slalom").stat().st_mtime):
        say(f"  {PLAN.relative_to(ROOT)} is there already")
        return
    PLAN.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    report = PLAN.with_suffix(".json")
    slalom("convert", source, "-o", PLAN, "--calibrate", ROOT / "models/calibration",
           "--preprocess", NETWORK / "preprocess.json", "--labels", ROOT / "models/labels/imagenet.txt",
           "--report", report)
    say(f"  wrote {PLAN.relative_to(ROOT)} ({PLAN.stat().st_size / 1e6:.1f} MB) in "
        f"{time.monotonic() - start:.0f} s; bounds and noise per layer: {report.relative_to(ROOT)}")


def classify():
    """Runs the float network and every mode; returns its best classes and {mode: JSON object}."""
    say("  float network ...")
    once = slalom("run", PLAN, "--input", PHOTOS, "--json", "--softmax", *MODES[0][1], "--float",
                  NETWORK / "model.onnx")
    results = {}
    for name, options in MODES:
        say(f"  {name} ...")
        results[name] = json.loads(slalom("run", PLAN, "--input", *[PHOTOS] * REPEAT, "--json",
                                          "--softmax", *options).stdout)
    return json.loads(once.stdout)["float_top"], results


def shortened(text, width):
    return text if len(text) <= width else text[: width - 1] + "…"


def show_photos(float_tops, results):
    first = results[MODES[0][0]]
    columns = ["float network", *[name for name, _ in MODES]]
    room = max(100, min(shutil.get_terminal_size((120, 24)).columns, 160))
    width = (room - 4) // len(columns) - 2
    for i in range(len(float_tops)):
        print("\n  " + styled("1", pathlib.Path(first["inputs"][i]).name))
        print("  " + "  ".join(name.ljust(width) for name in columns).rstrip())
        tops = [float_tops[i], *[results[name]["top"][i] for name, _ in MODES]]
        for rank in range(5):
            cells = [f"{100 * top[rank]['score']:4.1f}% {shortened(top[rank]['label'], width - 6)}"
                     for top in tops]
            print("  " + "  ".join(cell.ljust(width) for cell in cells).rstrip())
    answers = [results[name]["outputs"] for name, _ in MODES]
    if any(answer != answers[0] for answer in answers):
        sys.exit("the modes gave different integers: that must never happen, please report it")
    say("\n  All four modes gave the same integers, bit for bit.")


def show_modes(results):
    rows = []
    for name, _ in MODES:
        r = results[name]
        images = r["images"]
        pads = r["timing"]["pads_before_s"]
        rows.append([
            name, f"{r['timing']['images_per_s']:.1f}", r["checks"]["performed"],
            r["checks"]["failed"], f"{r['checks']['soundness_bits']:.1f}",
            f"{1000 * pads / images:.0f} ms" if pads else "-",
            f"{r['timing']['amortised_images_per_s']:.1f}",
        ])
    table(["mode", "images/s", "checks", "failed", "soundness bits", "pad cost an image",
           "images/s with pads"], rows)
    say("  A lie passes all checks of an image with probability at most 2^-bits. Pads are made before\n"
        "  the images come; the last column counts that time as well.")


def lie():
    """A device that changes one bit of one answer."""
    with tempfile.TemporaryDirectory() as folder:
        socket = pathlib.Path(folder) / "liar.sock"
        liar = subprocess.Popen([BIN / "slalom-liar", "--plan", PLAN, "--listen", socket,
                                 "--lie", "bit"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.05)
            done = slalom("run", PLAN, "--input", PHOTOS / "cat.jpg", "--device", f"unix:{socket}",
                          expect=3)
        finally:
            liar.terminate()
            liar.wait()
    say("  " + styled("1;31", done.stderr.strip()))
    say("  exit status 3: rejected. Nothing of that image was printed, because nothing left the "
        "trusted process.")


def main():
    title("1. A float network becomes integers, with a proof that none can overflow")
    convert()
    title("2. The same photographs in four modes")
    float_tops, results = classify()
    show_photos(float_tops, results)
    title("3. What each mode costs and promises")
    show_modes(results)
    title("4. A device that changes one bit of one answer")
    lie()


main()
