#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which layers run where: planned once and remembered, for a micro-batch, and options that make no sense.

Usage: placement_test.py FOLDER_OF_PROGRAMS
"""
import json
import pathlib
import sys
import tempfile
import unittest

from command import DONE, USAGE, WithPlan, slalom


class Placement(WithPlan):
    def test_a_placement_is_planned_once_and_remembered(self):
        with tempfile.TemporaryDirectory() as name:
            cache = pathlib.Path(name)

            def run(*words):
                done = slalom("run", self.plan, "--input", "random:2", "--json", *words,
                              environment={"XDG_CACHE_HOME": name})
                self.assertEqual(done.returncode, 0, done.stderr)
                return json.loads(done.stdout)["outputs"], "measuring" in done.stderr

            planned = ("--placement", "planned", "--micro-batch", "4")
            answers, measured = run("--placement", "outside")
            self.assertFalse(measured)
            for expected in (True, False):
                self.assertEqual(run(*planned), (answers, expected))
            self.assertEqual(run(*planned, "--soundness-bits", "60"), (answers, True))
            # A file that says something else, or nothing, is as good as none.
            for rubbish in ("", "{", "[]", '{"key": 5}', '{"key": "1|", "remote": 3}'):
                for file in (cache / "slalom").iterdir():
                    file.write_text(rubbish)
                self.assertEqual(run(*planned), (answers, True), rubbish)
            [file] = [f for f in (cache / "slalom").iterdir() if json.loads(f.read_text()).get("remote")][:1]
            known = json.loads(file.read_text())
            changes = [{"remote": r} for r in (3, [], [1, 2], known["remote"][1:], [True] * len(known["remote"]))]
            changes += [{"micro_batch": n} for n in (0, -1, 257, 2.5, "4", None)]
            for change in changes:
                for each in (cache / "slalom").iterdir():
                    each.write_text(json.dumps({**known, **change}))
                self.assertEqual(run(*planned), (answers, True), str(change))
            for each in (cache / "slalom").iterdir():
                each.write_text(json.dumps({**known, "micro_batch": 1}))
            self.assertEqual(run(*planned), (answers, False))

    def test_a_plan_says_the_micro_batch_that_it_is_for(self):
        with tempfile.TemporaryDirectory() as name:
            here = {"XDG_CACHE_HOME": name}
            words = ("plan", self.plan, "--device", "cpu", "--json")
            done = slalom(*words, environment=here)
            self.assertEqual(done.returncode, DONE, done.stderr)
            self.assertIn("trying sizes", done.stderr)
            chosen = json.loads(done.stdout)["micro_batch"]
            self.assertIn(chosen, (2, 4, 8))
            rates = slalom("bench", self.plan, "--device", "cpu", "--placement", "planned", "--only", "verified, pre",
                           "--repeat", 1, "--seconds", 0.02, "--latency", 0, "--json", environment=here)
            self.assertNotIn("measuring", rates.stderr)
            self.assertEqual(json.loads(rates.stdout)["modes"][0]["micro_batch"], chosen)
            done = slalom(*words, "--micro-batch", 3, environment=here)
            self.assertNotIn("trying sizes", done.stderr)
            self.assertEqual(json.loads(done.stdout)["micro_batch"], 3)

    def test_placement_options_that_make_no_sense(self):
        for words, text in ((("--keep-inside", "nothing"), "slalom plan lists them"),
                            (("--placement", "somewhere"), "--placement"),
                            (("--optimise", "size"), "--optimise")):
            done = slalom("run", self.plan, "--input", "random:1", *words)
            self.assertEqual(done.returncode, USAGE, done.stderr)
            self.assertIn(text, done.stderr)
        done = slalom("plan", self.plan, "--device", "none")
        self.assertEqual(done.returncode, USAGE, done.stderr)
        self.assertIn("nothing to plan", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
