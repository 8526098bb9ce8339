#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the slalom command finds out: outputs, timelines, accuracies.

Usage: results_test.py FOLDER_OF_PROGRAMS
"""
import json
import pathlib
import re
import struct
import sys
import tempfile
import unittest

from command import BAD_INPUT, DONE, USAGE, WithPlan, slalom


class Results(WithPlan):
    def test_json_schema(self):
        out = json.loads(slalom("run", self.plan, "--input", "random:3", "--json").stdout)
        for key in ("model", "mode", "device", "images", "inputs", "outputs", "checks", "timing"):
            self.assertIn(key, out)
        self.assertEqual(out["images"], 3)
        self.assertEqual(len(out["outputs"]), 3)
        for outputs in out["outputs"]:
            for output in outputs:
                self.assertEqual(set(output), {"name", "shape", "scale", "zero_point", "codes"})
                h, w, c = output["shape"]
                self.assertEqual(len(output["codes"]), h * w * c)
                self.assertTrue(all(isinstance(code, int) for code in output["codes"]))
        checks = out["checks"]
        self.assertGreater(checks["layers"], 0)
        self.assertEqual(checks["performed"], checks["layers"] * out["images"])
        self.assertEqual(checks["failed"], 0)
        self.assertGreaterEqual(checks["soundness_bits"], 40)
        for memory in (out["memory"]["trusted"], *out["memory"]["workers"]):
            self.assertLessEqual(memory["data_bytes"], memory["bytes"])
            self.assertLessEqual(memory["bytes"], memory["peak_bytes"])
        for key in ("wall_s", "images_per_s", "trusted_s", "link_s", "device_s", "pad_s"):
            self.assertGreaterEqual(out["timing"][key], 0)

    def test_inputs_are_the_same_whatever_the_mode(self):
        def codes(*options):
            done = slalom("run", self.plan, "--input", "random:2", "--json", *options)
            self.assertEqual(done.returncode, DONE, done.stderr)
            return json.loads(done.stdout)["outputs"]

        expected = codes("--integrity", "off", "--device", "none")
        for options in ([], ["--integrity", "plain"], ["--integrity", "batched"],
                        ["--privacy", "pads"], ["--privacy", "pads", "--integrity", "off"],
                        ["--privacy", "pads", "--pad-store", "temporary"]):
            self.assertEqual(codes(*options), expected, options)

    def test_a_timeline_has_every_job_and_what_lies_between(self):
        file = self.at / "trace.json"
        done = slalom("run", self.plan, "--input", "random:10", "--trace", file, "--micro-batch", 4, "--in-flight", 2,
                      "--json")
        self.assertEqual(done.returncode, DONE, done.stderr)
        out = json.loads(done.stdout)
        events = json.loads(file.read_text())["traceEvents"]
        names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
        self.assertEqual([names[p].split()[0] for p in sorted(names)], ["this", "worker", "trusted"])
        spans = [e for e in events if e["ph"] == "X"]
        jobs = [e for e in spans if e["pid"] == 1 and "micro_batch" in e["args"]]
        self.assertEqual(len(jobs), 3 * out["checks"]["layers"])  # micro-batches of 4, 4 and 2
        self.assertEqual(sum(e["args"]["images"] for e in jobs), out["checks"]["performed"])
        for way, key in (("bytes_in", "bytes_out"), ("bytes_out", "bytes_in")):
            self.assertEqual(sum(e["args"][way] for e in jobs), out["traffic"][key])
        self.assertEqual(min(e["ts"] for e in spans), 0)
        self.assertLess(max(e["ts"] + e["dur"] for e in spans), 1e6 * out["timing"]["wall_s"] + 1e3)
        # One row, since the device works on one job at a time; each job's computing lies inside of it.
        near = 2e-3
        jobs.sort(key=lambda e: e["ts"])
        for before, after in zip(jobs, jobs[1:]):
            self.assertLessEqual(before["ts"] + before["dur"], after["ts"] + near)
        computing = sorted((e for e in spans if e["name"] == "compute"), key=lambda e: e["ts"])
        for outer, inner in zip(jobs, computing, strict=True):
            self.assertAlmostEqual(outer["ts"], inner["ts"], delta=near)
            self.assertLessEqual(inner["dur"], outer["dur"])
        # This network is a chain: of each micro-batch, every gap from an answer to the next job.
        gaps = []
        for batch in {e["args"]["micro_batch"] for e in jobs}:
            mine = [e for e in jobs if e["args"]["micro_batch"] == batch]
            gaps += [(round(a["ts"] + a["dur"], 1), f"{a['name']} to {b['name']}", round(b["ts"], 1))
                     for a, b in zip(mine, mine[1:])]
        seen = [(e["ts"], e["name"], e["ts"] + e["dur"]) for e in spans if e["pid"] == 2]
        self.assertEqual(len(seen), len(gaps))
        for a, b in zip(sorted(seen), sorted(gaps)):
            self.assertAlmostEqual(a[0], b[0], delta=0.1)
            self.assertAlmostEqual(a[2], b[2], delta=0.1)
            self.assertEqual(a[1], b[1])
        answers = [e["name"] for e in events if e["ph"] == "i"]
        self.assertEqual(answers, [f"image {i}" for i in range(10)])

    def test_timelines_of_what_this_command_does_not_start(self):
        for device in ("none", "unix:/nowhere"):
            self.expect(slalom("run", self.plan, "--input", "random:1", "--device", device, "--trace", self.at / "t"),
                        USAGE, "--trace")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--trace", self.at / "no" / "t"), USAGE, "no/t")


class Evaluation(unittest.TestCase):
    """eval over an IDX file made here, with labels in its three forms."""

    def test_labels_in_all_forms_give_the_same_accuracy(self):
        with tempfile.TemporaryDirectory() as name:
            at = pathlib.Path(name)
            plan = at / "net.slalom"
            made = slalom("model", "mobilenet", "-o", plan, "--input-size", 32, "--classes", 10)
            self.assertEqual(made.returncode, DONE, made.stderr)
            top = json.loads(slalom("run", plan, "--input", "random:8", "--json", "--top", 5).stdout)
            best = [ranked[0]["class"] for ranked in top["top"]]
            worst = [next(c for c in range(10) if c not in [r["class"] for r in ranked])
                     for ranked in top["top"]]
            labels = best[:4] + worst[4:]  # half of them right
            (at / "lines.txt").write_text("# a comment\n" + "".join(f"{v}\n" for v in labels))
            (at / "labels.idx").write_bytes(struct.pack(">II", 0x801, 8) + bytes(labels))
            for file in ("lines.txt", "labels.idx"):
                done = slalom("eval", plan, "--data", "random:8", "--labels", at / file, "--json")
                self.assertEqual(done.returncode, DONE, done.stderr)
                accuracy = json.loads(done.stdout)["accuracy"]
                self.assertEqual(accuracy, {"images": 8, "top1": 0.5, "top5": 0.5})
            baseline = slalom("eval", plan, "--data", "random:8", "--labels", at / "lines.txt", "--precision", "fp32",
                              "--integrity", "off", "--device", "none").stdout
            self.assertRegex(baseline, r"(?m)^  float32 baseline +\d")
            text = slalom("eval", plan, "--data", "random:8", "--labels", at / "lines.txt").stdout
            self.assertTrue(re.search(r"50\.00%\s+50\.00%\s+8", text), text)
            (at / "short.txt").write_text("1\n")
            done = slalom("eval", plan, "--data", "random:8", "--labels", at / "short.txt")
            self.assertEqual(done.returncode, BAD_INPUT)
            self.assertIn("1 labels for 8 images", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
