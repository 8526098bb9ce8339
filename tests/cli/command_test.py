#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The slalom command as a user meets it: exit statuses, sentences, JSON, files. Standard library only.

Usage: command_test.py FOLDER_OF_PROGRAMS FOLDER_OF_VECTORS
"""
import json
import os
import pathlib
import pty
import re
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import unittest

from command import BAD_INPUT, BIN, DONE, UNAVAILABLE, USAGE, WithPlan, slalom

VECTORS = pathlib.Path(sys.argv[2])


class Commands(WithPlan):
    def expect(self, done, status, *pieces):
        """The status, and one sentence on stderr that holds all the pieces."""
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertTrue(done.stderr.startswith("slalom: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for piece in pieces:
            self.assertIn(piece, done.stderr)

    # ---- usage ----

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

    # ---- bad input ----

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
            self.wait_for(socket)
            self.expect(slalom(*run), USAGE, "mine", "another process uses it")
            self.assertEqual(slalom("pads", "--attach", socket, "--count", 1).returncode, DONE)
            holder.communicate(timeout=60)
            self.assertEqual(holder.returncode, DONE)
        finally:
            holder.kill()
            holder.communicate()

    # ---- full disk ----

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

    # ---- what is printed ----

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

    # ---- a device by hand, pads for a running process ----

    def test_device_by_hand(self):
        socket = self.at / "worker.sock"
        trace = self.at / "by_hand.json"
        worker = subprocess.Popen([BIN / "slalom", "device", self.plan, "--listen", socket, "--trace", trace],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            self.wait_for(socket)
            done = slalom("run", self.plan, "--input", "random:2", "--json", "--device",
                          f"unix:{socket}")
            self.assertEqual(done.returncode, DONE, done.stderr)
            layers = json.loads(done.stdout)["checks"]["layers"]
            self.assertGreater(layers, 0)
            self.wait_for(trace)
            jobs = [e for e in json.loads(trace.read_text())["traceEvents"] if "bytes_in" in e.get("args", ())]
            self.assertEqual(len(jobs), layers)  # of one micro-batch
            self.expect(slalom("device", "--listen", "127.0.0.1:0", "--trace", trace), USAGE, "--trace")
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(10)
            worker.stderr.close()

    def test_a_device_that_is_too_slow_is_not_said_to_have_lied(self):
        done = slalom("run", self.plan, "--input", "random:1", "--device", f"unix:{self.at}/nobody.sock")
        self.assertNotIn("lied", done.stdout + done.stderr)
        socket = self.at / "slow.sock"
        liar = subprocess.Popen([BIN / "slalom-liar", "--plan", self.plan, "--listen", socket, "--lie", "never"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            self.wait_for(socket)
            done = slalom("run", self.plan, "--input", "random:1", "--device", f"unix:{socket}", "--timeout-ms", 50)
            self.assertEqual(done.returncode, UNAVAILABLE, done.stderr)
            self.assertIn("no device gave an answer to check", done.stdout)
            self.assertNotIn("lied", done.stdout + done.stderr)
        finally:
            liar.kill()
            liar.wait()

    def test_a_device_that_is_not_there(self):
        done = slalom("run", self.plan, "--input", "random:1", "--device",
                      f"unix:{self.at}/nobody.sock")
        self.expect(done, UNAVAILABLE, "nobody.sock")

    def test_a_device_of_another_machine(self):
        worker = subprocess.Popen([BIN / "slalom", "device", "--listen", "127.0.0.1:0"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            address = worker.stdout.readline().split()[-1]
            self.assertRegex(address, r"^tcp:127\.0\.0\.1:\d+$")
            expected = json.loads(slalom("run", self.plan, "--input", "random:2", "--json").stdout)
            for streams in (1, 7):
                done = slalom("run", self.plan, "--input", "random:2", "--json", "--device", address,
                              "--placement", "outside", "--tcp-streams", streams)
                self.assertEqual(done.returncode, DONE, done.stderr)
                self.assertEqual(json.loads(done.stdout)["outputs"], expected["outputs"])
            other = slalom("device", "--listen", address.removeprefix("tcp:"))
            self.assertEqual(other.returncode, UNAVAILABLE)
            self.assertIn("somebody listens there", other.stderr)
        finally:
            worker.kill()
            worker.wait(10)
            worker.stdout.close()
        done = slalom("run", self.plan, "--input", "random:1", "--device", address)
        self.expect(done, UNAVAILABLE, address, "connection refused")
        self.expect(slalom("run", self.plan, "--input", "random:1", "--device", "tcp:nowhere"), USAGE,
                    "tcp:HOST:PORT")
        self.expect(slalom("device", "--listen", self.at / "no.sock"), USAGE, "MODEL")
        self.expect(slalom("device", self.plan, "--listen", "127.0.0.1:70000"), USAGE, "65535")

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
            self.wait_for(socket)
            filled = slalom("pads", "--attach", socket, "--count", 3)
            self.assertEqual(filled.returncode, DONE, filled.stderr)
            self.assertIn("making 3 more", filled.stdout)
            out, _ = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
            waiting.communicate()
        self.assertEqual(waiting.returncode, DONE)
        self.assertEqual(json.loads(out)["pads"], {"used": 3, "inline": 0})
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

    def wait_for(self, path):
        for _ in range(200):
            if path.exists():
                return
            signal.sigtimedwait([], 0.05)
        self.fail(f"{path} did not appear")


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
