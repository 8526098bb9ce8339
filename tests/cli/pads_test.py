#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pads: made for a running process, running out, and their store.

Usage: pads_test.py FOLDER_OF_PROGRAMS
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

from command import BIN, DONE, UNAVAILABLE, USAGE, WithPlan, slalom


class Pads(WithPlan):
    def test_pads_for_nobody(self):
        self.expect(slalom("pads", "--attach", self.at / "no.sock", "--count", 1), UNAVAILABLE,
                    "no.sock")

    def test_pads_for_a_running_process_that_waits_for_them(self):
        socket = self.at / "pads.sock"
        waiting = subprocess.Popen(
            [BIN / "slalom", "run", self.plan, "--input", "random:3", "--privacy", "pads", "--pads", "0",
             "--when-dry", "wait", "--listen", socket, "--json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.wait_for(socket.exists)
            filled = slalom("pads", "--attach", socket, "--count", 3)
            self.assertEqual(filled.returncode, DONE, filled.stderr)
            self.assertIn("making 3 more", filled.stdout)
            self.ends_with_pads(waiting, 3)
        finally:
            waiting.kill()
            waiting.communicate()
        self.assertFalse(socket.exists())

    def test_when_dry_fail_refuses_and_sends_nothing(self):
        done = slalom("run", self.plan, "--input", "random:2", "--privacy", "pads", "--pads", "1",
                      "--when-dry", "fail", "--json", "--micro-batch", "1")
        self.assertEqual(done.returncode, UNAVAILABLE, done.stderr)
        out = json.loads(done.stdout)
        self.assertIsNotNone(out["outputs"][0])
        self.assertIsNone(out["outputs"][1])

    def test_more_pads_than_memory_holds_are_refused_with_a_hint(self):
        done = slalom("run", self.plan, "--input", "random:1", "--privacy", "pads", "--pads", 10**12)
        self.assertEqual(done.returncode, UNAVAILABLE, done.stderr)
        self.assertRegex(done.stderr, r"(?m)^slalom: memory has room for \d+ pads .*--pad-store FILE$")

    def test_pads_of_a_process_that_has_ended_are_reported_and_removed(self):
        with tempfile.TemporaryDirectory() as name:
            store = pathlib.Path(name) / "pads"
            runs, sizes = [], []
            for _ in range(2):
                runs.append(slalom("run", self.plan, "--input", "random:1", "--privacy", "pads", "--pads", "2",
                                   "--pad-store", store))
                self.assertEqual(runs[-1].returncode, 0, runs[-1].stderr)
                sizes.append(store.stat().st_size)
            self.assertNotIn("has ended", runs[0].stderr)
            self.assertIn(f"'{store}' held pads of a process that has ended; they were removed", runs[1].stderr)
            self.assertEqual(sizes[0], sizes[1])

    def test_a_pad_store_replaces_no_other_file_and_serves_one_process(self):
        store = self.at / "mine"
        store.write_text("something that is no pad store")
        run = ["run", self.plan, "--input", "random:1", "--privacy", "pads", "--pad-store", store]
        self.expect(slalom(*run), USAGE, "mine", "would be lost")
        self.assertEqual(store.read_text(), "something that is no pad store")
        store.unlink()
        socket = self.at / "holder.sock"
        holder = subprocess.Popen([BIN / "slalom", *map(str, run), "--pads", "0", "--when-dry", "wait", "--listen",
                                   str(socket)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        try:
            self.wait_for(socket.exists)
            self.expect(slalom(*run), USAGE, "mine", "another process uses it")
            self.assertEqual(slalom("pads", "--attach", socket, "--count", 1).returncode, DONE)
            holder.communicate(timeout=60)
            self.assertEqual(holder.returncode, DONE)
        finally:
            holder.kill()
            holder.communicate()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
