#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the slalom command cannot read, must not write over, and has no room for.

Usage: failures_test.py FOLDER_OF_PROGRAMS
"""
import pathlib
import resource
import struct
import sys
import unittest

from command import BAD_INPUT, UNAVAILABLE, USAGE, WithPlan, slalom

VECTORS = pathlib.Path(__file__).parent / "vectors"


class Failures(WithPlan):
    def test_damaged_plans(self):
        good = self.plan.read_bytes()
        for name, data in (("cut", good[:-1]), ("longer", good + b"\0"), ("empty", b""),
                           ("text", b"not a plan at all, just some words"),
                           ("flipped", good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])):
            bad = self.at / f"{name}.slalom"
            bad.write_bytes(data)
            self.expect(slalom("run", bad, "--input", "random:1"), BAD_INPUT, f"{name}.slalom")

    def test_damaged_inputs(self):
        for name in ("cut.jpg", "cut.png", "text.jpg", "i8.npy", "f4.npy"):
            self.expect(slalom("run", self.plan, "--input", VECTORS / name), BAD_INPUT, name)
        empty = self.at / "empty"
        empty.mkdir(exist_ok=True)
        self.expect(slalom("run", self.plan, "--input", empty), BAD_INPUT, "empty")

    def test_damaged_networks(self):
        bad = self.at / "bad.onnx"
        bad.write_bytes(b"\xff" * 1000)
        out = self.at / "never.slalom"
        self.expect(slalom("convert", bad, "-o", out), BAD_INPUT, "bad.onnx")
        self.assertFalse(out.exists())

    def test_inputs_that_hold_nothing(self):
        empty = self.at / "empty.npy"
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3, 32, 32), }"
        header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
        empty.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        self.expect(slalom("run", self.plan, "--input", empty), BAD_INPUT, "no images")
        labels = self.at / "nothing.txt"
        labels.write_text("random:1[0]\n")
        self.expect(slalom("eval", self.plan, "--data", "random:1", "--labels", labels), BAD_INPUT, "no image")

    # ---- results that would destroy something ----

    def test_inputs_are_not_written_over(self):
        network = self.at / "precious.onnx"
        network.write_bytes(b"mine")
        link = self.at / "link.onnx"
        link.symlink_to(network)
        for out in (network, link, self.at / "." / "precious.onnx"):
            self.expect(slalom("convert", network, "-o", out), USAGE, "precious.onnx would be written over")
        self.expect(slalom("convert", network, "-o", self.at / "x", "--report", network), USAGE, "written over")
        self.expect(slalom("model", "mobilenet", "-o", self.at / "x", "--report", self.at / "x"), USAGE, "written over")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--trace", self.plan), USAGE, "written over")
        self.expect(slalom("plan", self.plan, "--svg", self.plan), USAGE, "written over")
        self.assertEqual(network.read_bytes(), b"mine")

    def test_results_that_cannot_be_written_are_found_before_the_work(self):
        nowhere = self.at / "no" / "file"
        for words in (["model", "mobilenet", "-o", nowhere],
                      ["model", "mobilenet", "-o", self.at / "y", "--report", nowhere],
                      ["model", "mobilenet", "-o", self.at],
                      ["run", self.plan, "--input", "random:1", "--trace", nowhere],
                      ["plan", self.plan, "--svg", nowhere]):
            done = slalom(*words)
            self.expect(done, USAGE, "cannot be written")
            self.assertEqual(done.stdout, "")
        self.assertFalse((self.at / "y").exists())

    # ---- too little room ----

    def test_a_full_disk_leaves_no_partial_file(self):
        folder = self.at / "full"
        folder.mkdir()
        out = folder / "out.slalom"
        out.write_bytes(b"old")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

        done = slalom("model", "mobilenet", "-o", out, "--input-size", 32, limit=limit)
        self.expect(done, UNAVAILABLE, "out.slalom")
        self.assertEqual(out.read_bytes(), b"old")
        self.assertEqual([p.name for p in folder.iterdir()], ["out.slalom"])

    def test_too_little_memory_is_no_fault_of_the_network(self):
        network = pathlib.Path(__file__).resolve().parents[2] / "models" / "efficientnet_lite0" / "model.onnx"

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 27, 1 << 27))

        done = slalom("convert", network, "-o", self.at / "x", "--calibrate", "random:4", "--threads", 1, limit=limit)
        self.expect(done, UNAVAILABLE, "not enough memory")
        self.assertFalse((self.at / "x").exists())

    def test_output_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w") as full:
            self.expect(slalom("doctor", stdout=full), UNAVAILABLE, "full")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
