#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The slalom command on a disk that is really full: a small tmpfs in a mount namespace of its own.

Usage: full_disk_test.py FOLDER_OF_PROGRAMS FOLDER_OF_MODELS

Exit status 77 (skipped) where this user may not mount: neither root nor user namespaces.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from command import BIN, DONE, UNAVAILABLE, WithPlan, slalom

MODELS = pathlib.Path(sys.argv[2])
SKIPPED = 77
KIB = 1024


def enter_namespace():
    """Starts this test again where a tmpfs can be mounted that nobody else sees."""
    unshare = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    refused = "there is no unshare"
    if shutil.which("unshare"):
        with tempfile.TemporaryDirectory() as at:
            tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", at],
                                   capture_output=True, text=True)
        if tried.returncode == 0:
            os.execvp("unshare", [*unshare, sys.executable, *sys.argv[:3], "mounting"])
        refused = tried.stderr.strip() or "unshare failed"
    print(f"SKIPPED: no small disk can be mounted here ({refused}); run it as root")
    sys.exit(SKIPPED)


class FullDisk(WithPlan):
    def setUp(self):
        self.disk = self.at / "disk"
        self.disk.mkdir()
        self.mounted = False

    def tearDown(self):
        if self.mounted:
            subprocess.run(["umount", self.disk], check=True)
        self.disk.rmdir()

    def mount(self, kib, full=False):
        """A disk of so many KiB, of which a file of somebody else takes all if it is to be full."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", self.disk], check=True)
        self.mounted = True
        if full:
            with open(self.disk / "others", "wb", buffering=0) as file:
                try:
                    while file.write(bytes(4 * KIB)):
                        pass
                except OSError:
                    pass
            self.assertEqual(os.statvfs(self.disk).f_bavail, 0)

    def left(self):
        return sorted(str(p.relative_to(self.disk)) for p in self.disk.rglob("*") if p.name != "others")

    def refused(self, done, *pieces):
        """The status, and as the last thing one sentence that holds all the pieces."""
        self.assertEqual(done.returncode, UNAVAILABLE, done.stderr)
        said = [line for line in done.stderr.splitlines() if line.startswith("slalom: ")]
        self.assertEqual(said, done.stderr.splitlines()[-1:], done.stderr)
        for piece in pieces:
            self.assertIn(str(piece), said[0])

    # ---- files that commands write ----

    def test_a_plan(self):
        self.mount(64)
        network = MODELS / "fashion_mnist" / "mobilenet.onnx"
        out = self.disk / "net.slalom"
        convert = ("convert", network, "--calibrate", "random:2", "-o")
        for words in (convert, ("model", "mobilenet", "--input-size", 32, "-o")):
            self.refused(slalom(*words, out), out, "no room")
            self.assertEqual(self.left(), [])
            out.write_bytes(b"an older plan")
            self.refused(slalom(*words, out), out, "no room")
            self.assertEqual((self.left(), out.read_bytes()), ([out.name], b"an older plan"))
            out.unlink()

    def test_a_report_beside_a_plan(self):
        self.mount(16, full=True)
        report = self.disk / "report.json"
        done = slalom("convert", MODELS / "fashion_mnist" / "mobilenet.onnx", "--calibrate", "random:2", "-o",
                      self.at / "whole.slalom", "--report", report)
        self.refused(done, report, "no room")
        self.assertEqual(self.left(), [])

    def test_a_timeline(self):
        self.mount(16, full=True)
        run = ("run", self.plan, "--input", "random:4", "--trace")
        self.refused(slalom(*run, self.disk / "t.json"), self.disk / "t.json", "no room")
        # The workers' own timelines lie in the folder of temporary files until then.
        self.refused(slalom(*run, self.at / "t.json", environment={"TMPDIR": str(self.disk)}), "no timeline")
        self.assertEqual((self.left(), (self.at / "t.json").exists()), ([], False))

    def test_the_timeline_of_a_device_by_hand(self):
        self.mount(16, full=True)
        socket, trace = self.at / "worker.sock", self.disk / "t.json"
        worker = subprocess.Popen([BIN / "slalom", "device", self.plan, "--listen", socket, "--trace", trace],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            self.wait_for(socket.exists)
            for _ in range(2):  # it goes on serving
                done = slalom("run", self.plan, "--input", "random:1", "--device", f"unix:{socket}")
                self.assertEqual(done.returncode, DONE, done.stderr)
                said = worker.stderr.readline()
                self.assertRegex(said, r"^slalom-device: .*t\.json: .*full\?$")
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(10)
            worker.stderr.close()
        self.assertEqual(self.left(), [])

    def test_a_placement(self):
        self.mount(16, full=True)
        words = ("--placement", "planned", "--micro-batch", 2)
        svg = self.disk / "placement.svg"
        self.refused(slalom("plan", self.plan, "--micro-batch", 2, "--svg", svg, environment={"XDG_CACHE_HOME": str(self.at)}), svg,
                     "no room")
        # One that cannot be remembered is used all the same.
        done = slalom("run", self.plan, "--input", "random:1", *words, environment={"XDG_CACHE_HOME": str(self.disk)})
        self.assertEqual(done.returncode, DONE, done.stderr)
        self.assertIn(self.left(), ([], ["slalom"]))

    def test_what_is_printed(self):
        self.mount(16, full=True)
        for words in (("bench", self.plan, "--only", "verified, pre", "--repeat", 1, "--seconds", 0.02, "--latency", 0,
                       "--json"), ("run", self.plan, "--input", "random:4", "--json"),
                      ("plan", self.plan, "--micro-batch", 2, "--json")):
            with open(self.disk / "out.json", "w") as out:
                self.refused(slalom(*words, stdout=out, environment={"XDG_CACHE_HOME": str(self.at)}), "the output cannot be written")
            (self.disk / "out.json").unlink()

    # ---- pads ----

    def private(self, *words):
        return ("run", self.plan, "--privacy", "pads", "--pad-store", self.disk / "pads", "--json", *words)

    def test_pads_of_a_run(self):
        self.mount(700)  # two images
        done = slalom(*self.private("--input", "random:3"))
        self.assertRegex(done.stderr.splitlines()[0], r"^Making pads for 3 images: \d+ kB an image, .* in all \(\d+ kB free\)\.$")
        self.refused(done, self.disk / "pads", "room for 2 pads", "not for 3")
        self.assertEqual((done.stdout, self.left()), ("", []))
        self.assertEqual(slalom(*self.private("--input", "random:2")).returncode, DONE)

    def test_pads_without_a_single_free_block(self):
        self.mount(16, full=True)
        done = slalom(*self.private("--input", "random:1"))
        self.refused(done, "no room")
        self.assertEqual((done.stdout, self.left()), ("", []))
        for where in ("bench", "run"):
            words = ("--only", "sealed", "--repeat", 1) if where == "bench" else ("--input", "random:1", "--privacy",
                                                                                  "pads", "--pad-store", "temporary")
            done = slalom(where, self.plan, *words, "--json", environment={"TMPDIR": str(self.disk)})
            self.refused(done, "no room")
            self.assertEqual((done.stdout, self.left()), ("", []))

    def test_pads_made_while_an_image_waits(self):
        self.mount(200)  # none
        done = slalom(*self.private("--input", "random:5", "--pads", 0, "--when-dry", "inline"))
        self.refused(done, "5 of 5 images got no answer", "no room")
        out = json.loads(done.stdout)
        self.assertEqual(out["outputs"], [None] * 5)
        self.assertEqual(out["traffic"], {"bytes_out": 0, "bytes_in": 0})
        self.assertEqual(out["pads"], {"used": 0, "inline": 0})

    def test_pads_for_a_process_that_waits(self):
        self.mount(700)  # two images
        socket = self.at / "pads.sock"
        waiting = subprocess.Popen(
            [BIN / "slalom", *map(str, self.private("--input", "random:3", "--pads", 0, "--when-dry", "wait",
                                                    "--micro-batch", 1, "--listen", socket))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def fill(count):
            return slalom("pads", "--attach", socket, "--count", count)

        try:
            self.wait_for(socket.exists)
            done = fill(3)
            self.refused(done, "no room")
            self.assertRegex(done.stdout, r"^in stock: 0; making 3 more: \d+ kB an image, \d+ kB in all\n$")
            # The process goes on, with as many as there is room for, again and again.
            self.assertEqual(fill(2).returncode, DONE)
            self.wait_for(lambda: fill(1).returncode == DONE or waiting.poll() is not None)
            self.ends_with_pads(waiting, 3)
        finally:
            waiting.kill()
            waiting.communicate()


if __name__ == "__main__":
    if len(sys.argv) < 4:
        enter_namespace()
    unittest.main(argv=sys.argv[:1], verbosity=2)
