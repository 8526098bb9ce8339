# SPDX-License-Identifier: Apache-2.0
"""The slalom command for tests of it, of the standard library only: sys.argv[1] is the folder of the programs."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

BIN = pathlib.Path(sys.argv[1])
DONE, USAGE, BAD_INPUT, REJECTED, UNAVAILABLE, INTERNAL = range(6)


def slalom(*words, stdout=subprocess.PIPE, environment=None, limit=None):
    return subprocess.run(
        [BIN / "slalom", *map(str, words)], stdin=subprocess.DEVNULL, stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=120,
        env={"PATH": os.environ["PATH"], **(environment or {})}, preexec_fn=limit)


class WithPlan(unittest.TestCase):
    """Tests around one small network: `at` is a folder of theirs, `plan` its plan."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.at = pathlib.Path(cls.folder.name)
        cls.plan = cls.at / "small.slalom"
        made = slalom("model", "mobilenet", "-o", cls.plan, "--input-size", 32, "--classes", 10)
        assert made.returncode == DONE, made.stderr

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def expect(self, done, status, *pieces):
        """The status, and one sentence on stderr that holds all the pieces."""
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertTrue(done.stderr.startswith("slalom: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for piece in pieces:
            self.assertIn(piece, done.stderr)

    def wait_for(self, condition):
        for _ in range(200):
            if condition():
                return
            signal.sigtimedwait([], 0.05)
        self.fail(f"it did not happen: {condition}")

    def ends_with_pads(self, running, count):
        """The run, with --json, ends well and has used so many pads, all of them from the stock."""
        out, _ = running.communicate(timeout=60)
        self.assertEqual(running.returncode, DONE)
        self.assertEqual(json.loads(out)["pads"], {"used": count, "inline": 0})
