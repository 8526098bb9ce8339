#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Devices that the slalom command did not start itself.

Usage: devices_test.py FOLDER_OF_PROGRAMS
"""
import json
import signal
import subprocess
import sys
import unittest

from command import BIN, DONE, UNAVAILABLE, USAGE, WithPlan, slalom


class Devices(WithPlan):
    def test_device_by_hand(self):
        socket = self.at / "worker.sock"
        trace = self.at / "by_hand.json"
        worker = subprocess.Popen([BIN / "slalom", "device", self.plan, "--listen", socket, "--trace", trace],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            self.wait_for(socket.exists)
            done = slalom("run", self.plan, "--input", "random:2", "--json", "--device",
                          f"unix:{socket}")
            self.assertEqual(done.returncode, DONE, done.stderr)
            layers = json.loads(done.stdout)["checks"]["layers"]
            self.assertGreater(layers, 0)
            self.wait_for(trace.exists)
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
            self.wait_for(socket.exists)
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


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
