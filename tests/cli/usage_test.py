#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The slalom command on a terminal: its help, its answers to wrong words, its colours, its doctor.

Usage: usage_test.py FOLDER_OF_PROGRAMS
"""
import json
import os
import pty
import resource
import sys
import unittest

from command import DONE, USAGE, WithPlan, slalom


class Usage(WithPlan):
    def test_help_teaches_by_examples(self):
        top = slalom("--help")
        self.assertEqual(top.returncode, DONE)
        for name in ("convert", "model", "run", "eval", "pads", "bench", "device", "doctor"):
            self.assertRegex(top.stdout, rf"(?m)^  {name} ")
            text = slalom(name, "--help").stdout
            self.assertIn(f"slalom {name}", text[text.index("Example"):])
            self.assertLessEqual(max(map(len, text.splitlines())), 100, name)
            self.assertNotRegex(text, r"\{|INT in|:FLOAT", name)
        self.assertNotIn("split", slalom("run", "--help").stdout)  # not built yet

    def test_usage_errors_name_the_option_and_the_help(self):
        self.expect(slalom(), USAGE, "slalom --help")
        self.expect(slalom("frob"), USAGE, "frob", "slalom --help")
        self.expect(slalom("run"), USAGE, "MODEL is required", "slalom run --help")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--frob"), USAGE, "--frob")
        self.expect(slalom("run", self.plan, "--inptu", "random:1"), USAGE, "--inptu", "run --help")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--integrity", "some"), USAGE,
                    "--integrity", "preprocessed")
        self.expect(slalom("run", self.plan, "--input", "random:x"), USAGE, "random:16")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--top", "0"), USAGE, "--top")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--device", "moon"), USAGE, "moon")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--precision", "fp32"), USAGE,
                    "--device none")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--device", "none", "--privacy",
                           "pads"), USAGE, "--privacy")
        self.expect(slalom("model", "vgg17", "-o", self.at / "x"), USAGE, "vgg17", "resnet50")
        for words in (["model", "mobilenet", "--seed", "-1"], ["model", "mobilenet", "--threads", "-1"],
                      ["convert", "net.onnx", "--samples", "-1"], ["convert", "net.onnx", "--threads", "-1"]):
            self.expect(slalom(*words, "-o", self.at / "x"), USAGE, words[2], "-1")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--privacy", "pads", "--pads", "-1"), USAGE, "-1")

    def test_misspelled_words_are_answered_with_the_nearest_ones(self):
        run = ["run", self.plan, "--input", "random:1"]
        for words, meant in ((["evaluate"], "eval"), (["modle"], "model"), (["Doctor"], "doctor"),
                             (["--versoin"], "--version"), (["run", self.plan, "--inptu", "x"], "--input"),
                             ([*run, "--optimize", "latency"], "--optimise"),
                             ([*run, "--soundnes-bits=50"], "--soundness-bits"),
                             ([*run, "--integrity", "proprocessed"], "preprocessed"),
                             ([*run, "--placement", "insde"], "inside"),
                             (["model", "VGG16", "-o", self.at / "x"], "vgg16"),
                             (["convert", "net.onnx", "-o", self.at / "x", "--calibrator", "min_max"], "minmax")):
            self.expect(slalom(*words), USAGE, f"(did you mean {meant}?)")
        layer = json.loads(slalom("plan", self.plan, "--json").stdout)["layers"][0]["name"]
        self.expect(slalom(*run, "--keep-inside", layer + "x"), USAGE, f"(did you mean {layer}?)")
        self.assertNotIn("did you mean", slalom("frobnicate").stderr)

    def test_missing_files_are_named(self):
        self.expect(slalom("run", self.at / "no.slalom", "--input", "random:1"), USAGE, "no.slalom")
        self.expect(slalom("run", self.plan, "--input", self.at / "no.png"), USAGE, "no.png")
        self.expect(slalom("convert", self.at / "no.onnx", "-o", self.at / "x"), USAGE, "no.onnx")
        self.expect(slalom("eval", self.plan, "--data", self.at / "no", "--labels", "x"), USAGE, "no")

    def test_plain_text_without_a_terminal(self):
        for words in (["doctor"], ["run", self.plan, "--input", "random:1"], ["--help"]):
            done = slalom(*words)
            self.assertEqual(done.returncode, DONE, done.stderr)
            self.assertNotIn("\x1b", done.stdout + done.stderr)

    def on_a_terminal(self, *words, environment):
        master, slave = pty.openpty()
        done = slalom(*words, stdout=slave, environment=environment)
        os.close(slave)
        self.assertEqual(done.returncode, DONE, done.stderr)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:  # the other end is closed and all is read
            pass
        os.close(master)
        return text.decode()

    def test_colours_on_a_terminal_unless_told_otherwise(self):
        self.assertIn("\x1b[", self.on_a_terminal("doctor", environment={"TERM": "xterm"}))
        for environment in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn("\x1b", self.on_a_terminal("doctor", environment=environment))

    def test_doctor(self):
        text = slalom("doctor").stdout
        for piece in ("processor", "locked memory", "slalom-trusted", "What will be used"):
            self.assertIn(piece, text)
        out = json.loads(slalom("doctor", "--json").stdout)
        self.assertEqual(set(out), {"machine", "used"})

    def test_doctor_says_which_limit_to_set(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))

        self.assertRegex(slalom("doctor", limit=limit).stdout, r"ulimit -l \d+")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
