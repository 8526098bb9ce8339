#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What slalom bench measures: modes round by round, and kernels.

Usage: rates_test.py FOLDER_OF_PROGRAMS
"""
import json
import re
import statistics
import sys
import unittest

from command import BIN, DONE, USAGE, WithPlan, slalom


class Rates(WithPlan):
    def test_bench_compares_modes_round_by_round(self):
        done = slalom("bench", self.plan, "--only", "fp32|float32|trusted|verified, pre|private +", "--repeat", 3,
                      "--seconds", 0.02, "--latency", 0.02, "--link", 10, "--json")
        self.assertEqual(done.returncode, DONE, done.stderr)
        names = ["float32 baseline", "trusted only, int8", "verified, preprocessed", "private + verified",
                 "private + verified, sealed pads"]
        rounds = re.findall(r"(?m)^round (\d) of 3: (.*) \.\.\.$", done.stderr)
        self.assertEqual(rounds, [(str(r), name) for r in (1, 2, 3) for name in names])
        out = json.loads(done.stdout)
        modes = {mode["mode"]: mode for mode in out["modes"]}
        self.assertEqual(list(modes), names)
        for mode in modes.values():
            rates = mode["repetitions"]
            self.assertEqual(rates, [s["images"] / s["wall_s"] for s in mode["samples"]])
            self.assertEqual((out["repeat"], len(rates)), (3, 3))
            self.assertEqual(mode["images_per_s"], statistics.median(rates))
            for key, baseline in (("x_int8", names[1]), ("x_fp32", names[0])):
                ratios = [a / b for a, b in zip(rates, modes[baseline]["repetitions"])]
                self.assertEqual(mode[key], {"median": statistics.median(ratios), "min": min(ratios),
                                             "max": max(ratios)})
            self.assertEqual(mode["images"], sum(s["images"] for s in mode["samples"]))
            late = mode["latency_ms"]
            self.assertLessEqual(late["min"], late["p50"])
            self.assertLessEqual(late["p50"], late["p99"])
            self.assertLessEqual(late["p99"], late["max"])
            self.assertGreaterEqual(late["count"], 1)
            link = mode["link"]
            for way in ("in", "out"):
                # What the plan says and what the trusted process counted.
                self.assertEqual(sum(layer[way] for layer in link["layers"]), mode[f"bytes_{way}"] / mode["images"])
                self.assertAlmostEqual(link[f"{way}_gb_per_s"],
                                       link[f"bytes_{way}_per_image"] * mode["images_per_s"] / 1e9)
            self.assertAlmostEqual(link["share"], max(link["in_gb_per_s"], link["out_gb_per_s"]) / 10)
        self.assertIsNone(modes[names[0]]["memory"]["trusted_peak_bytes"])
        self.assertIn("process of the command", modes[names[0]]["memory"]["why"])
        for name in names[1:]:
            self.assertGreater(modes[name]["memory"]["trusted_peak_bytes"], self.plan.stat().st_size)
        self.assertEqual(modes[names[1]]["link"]["layers"], [])
        # Words of three bytes go out in place of codes.
        verified, private, sealed = (modes[n]["link"]["bytes_out_per_image"] for n in names[2:])
        self.assertEqual((private, sealed), (3 * verified, 3 * verified))

    def test_bench_of_one_round_without_latency(self):
        words = ("bench", self.plan, "--only", "trusted", "--repeat", 1, "--seconds", 0.02, "--latency", 0)
        [mode] = json.loads(slalom(*words, "--json").stdout)["modes"]
        self.assertIsNone(mode["latency_ms"])
        self.assertIsNone(mode["x_fp32"])
        self.assertEqual(mode["x_int8"], {"median": 1, "min": 1, "max": 1})
        text = slalom(*words).stdout
        self.assertIn("1 interleaved round", text)
        self.assertLessEqual(max(map(len, text.splitlines())), 120)
        self.expect(slalom("bench", self.plan, "--only", "nothing"), USAGE, "nothing", "--only")

    def test_bench_micro_measures_kernels_by_name(self):
        if not (BIN / "bench_field").exists():
            self.skipTest("the benchmarks are not built")
        name = "consume/portable/p24/verify/c24/hot"
        done = slalom("bench", "micro", "--only", name, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        out = json.loads(done.stdout)
        self.assertEqual(list(out), ["bench_field"])
        self.assertEqual([run["name"] for run in out["bench_field"]], [name])
        self.assertGreater(out["bench_field"][0]["items_per_second"], 1e6)
        self.expect(slalom("bench", "micro", "--only", "no such kernel"), USAGE, "no such kernel", "bench micro")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
