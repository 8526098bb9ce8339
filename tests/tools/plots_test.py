#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/plots.py: the same results give the same bytes; ratios are to the strongest that stays inside."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def peer(name, threads, repetitions):
    middle = sorted(repetitions)[len(repetitions) // 2]
    return {"status": "ok", "model": "vgg16", "threads": threads, "peer": name,
            "repetitions": repetitions, "images_per_s": middle, "batch": 8, "streams": 1,
            "latency_ms": {"p50": 3.0, "p99": 4.5, "calls": 9}}


PEERS = [peer("ort-int8-u8s8", 1, [39.0, 40.0, 41.0]), peer("ort-int8-s8s8", 1, [49.0, 50.0, 51.0]),
         peer("torch-fp32", 1, [5.0, 5.0, 5.0]), peer("ort-int8-u8s8", 4, [100.0, 100.0, 100.0]),
         {"status": "unavailable", "model": "vgg16", "threads": 1, "peer": "gpu-fp16", "error": "no GPU"}]
MODES = [{"mode": "float32 baseline", "images_per_s": 4.0},
         {"mode": "trusted only, int8", "images_per_s": 45.0},
         {"mode": "verified, preprocessed", "images_per_s": 125.0},
         {"mode": "private + verified", "images_per_s": 60.0, "amortised_images_per_s": 30.0}]


def rounds(mode, rates, int8, **more):
    """A mode as `slalom bench` writes it after several rounds; int8: the baseline's rates."""
    ratios = sorted(a / b for a, b in zip(rates, int8))
    return {"mode": mode, "images_per_s": sorted(rates)[1], "repetitions": rates,
            "x_int8": {"median": ratios[1], "min": ratios[0], "max": ratios[2]}, "x_fp32": None,
            "latency_ms": {"p50": 1.5, "p99": 2.25, "count": 60},
            "memory": {"trusted_peak_bytes": 123e6}, **more}


class Plots(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        results = {f"vgg16/{p['threads']}/{p['peer']}": p for p in PEERS}
        self.write("here-peers.json", {"format": "slalom-peers", "version": 1, "results": results,
                                       "machine": {"cpu": "Some Processor", "cores": 4}})
        runs = [{"model": "plans/vgg16.slalom", "threads": t, "modes": MODES} for t in (1, 4)]
        self.write("here-network.json", {"runs": runs})

    def write(self, name, what):
        (self.folder / name).write_text(what if isinstance(what, str) else json.dumps(what))

    def plots(self, out, *more, seed="0"):
        files = sorted(self.folder.glob("*.json"))
        command = [sys.executable, ROOT / "tools/plots.py", "--out", self.folder / out, *more, *files]
        return subprocess.run(command, capture_output=True, text=True,
                              env={**os.environ, "PYTHONHASHSEED": seed})

    def cells(self, done, label):
        """What the first table says of something, one text for each number of threads."""
        rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines())
        return next(row[1:] for row in rows if row[0] == label)

    def test_same_bytes(self):
        for out, seed in (("a", "1"), ("b", "2")):
            done = self.plots(out, seed=seed)
            self.assertEqual(done.returncode, 0, done.stderr)
        drawn = {p.name: p.read_bytes() for p in (self.folder / "a").iterdir()}
        self.assertEqual(set(drawn), {"here-vgg16.svg", "here-threads.svg", "here-latency.svg"})
        self.assertEqual(drawn, {p.name: p.read_bytes() for p in (self.folder / "b").iterdir()})

    def test_ratios(self):
        done = self.plots("a", "--no-plots")
        self.assertEqual(done.returncode, 0, done.stderr)
        # The strongest with one thread is the faster kind of a peer's int8, with four its other.
        self.assertEqual(self.cells(done, "verified, preprocessed"), ["125 (2.50x)", "125 (1.25x)"])
        self.assertEqual(self.cells(done, "private + verified"), ["60.0 [30.0] (1.20x)", "60.0 [30.0] (0.60x)"])
        self.assertEqual(self.cells(done, "ONNX Runtime int8"), ["50.0 (1.00x)", "100 (1.00x)"])
        self.assertIn("here: Some Processor, 4 cores", done.stdout)
        self.assertFalse((self.folder / "a").exists())

    def test_rounds(self):
        int8 = [100.0, 50.0, 80.0]
        link = {"bytes_out_per_image": 2e6, "bytes_in_per_image": 7.5e6, "out_gb_per_s": 0.5, "in_gb_per_s": 2.25}
        modes = [rounds("trusted only, int8", int8, int8, link={"in_gb_per_s": 0}),
                 rounds("verified, preprocessed", [300.0, 200.0, 160.0], int8, link=link)]
        self.write("new-network.json", {"runs": [{"model": "vgg16.slalom", "trusted_threads": 2, "modes": modes}]})
        done = self.plots("a")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
        # Medians of the rates are 200 and 80, that of the ratios of each round is 3.
        self.assertIn(["verified, preprocessed", "200 (3.00x)"], lines)
        self.assertIn(["verified, preprocessed", "2", "1.50", "2.25"], lines)
        self.assertIn(["verified, preprocessed", "2", "123", "2.00", "7.50", "0.50", "2.25"], lines)
        self.assertIn(["ours inside, int8", "2", "123", "-", "-", "-", "-"], lines)
        self.assertIn("3.00x", (self.folder / "a" / "new-vgg16.svg").read_text())
        self.assertTrue((self.folder / "a" / "new-latency.svg").exists())

    def test_other_files(self):
        self.write("here-other.json", {"benchmarks": []})
        done = self.plots("a", "--no-plots")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("passed over: here-other.json", done.stderr)
        self.write("here-cut.json", '{"format": "slalom-pe')
        done = self.plots("a", "--no-plots")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("here-cut.json", done.stderr)


if __name__ == "__main__":
    unittest.main()
