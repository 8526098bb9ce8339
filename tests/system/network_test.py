# SPDX-License-Identifier: Apache-2.0
"""A worker over TCP between two network namespaces: a link of limited rate, one that loses packets, and
one that goes away. Needs root, ip, tc and nft; skips (status 77) without.

usage: network_test.py BIN_FOLDER
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(sys.argv[1])
SKIP = 77
HERE, THERE = f"slalom-a{os.getpid()}", f"slalom-b{os.getpid()}"
PORT = "7000"
WORKER = f"10.213.77.2:{PORT}"


def run(*words, check=True):
    return subprocess.run([str(w) for w in words], check=check, capture_output=True, text=True, timeout=120)


def inside(space, *words):
    return ["ip", "netns", "exec", space, *map(str, words)]


def make_network():
    for space in (HERE, THERE):
        run("ip", "netns", "add", space)
    run("ip", "link", "add", "near0", "netns", HERE, "type", "veth", "peer", "name", "far0", "netns", THERE)
    for space, device, address in ((HERE, "near0", "10.213.77.1/24"), (THERE, "far0", "10.213.77.2/24")):
        run("ip", "-n", space, "address", "add", address, "dev", device)
        run("ip", "-n", space, "link", "set", device, "up")
        run("ip", "-n", space, "link", "set", "lo", "up")
    # Is there what the tests ask of the kernel?
    run(*inside(HERE, "tc", "qdisc", "add", "dev", "near0", "root", "tbf", "rate", "1gbit", "burst", "64kb",
                "latency", "50ms"))
    lose(THERE, 100)
    run(*inside(THERE, "nft", "flush", "ruleset"))
    run(*inside(HERE, "tc", "qdisc", "del", "dev", "near0", "root"))


def lose(space, one_in):
    """Drops one of so many packets that come into a namespace."""
    run(*inside(space, "nft", "add", "table", "inet", "t"))
    run(*inside(space, "nft", "add chain inet t c { type filter hook input priority 0 ; }"))
    run(*inside(space, "nft", f"add rule inet t c numgen random mod {one_in} == 0 drop"))


def remove_network():
    for space in (HERE, THERE):
        run("ip", "netns", "del", space, check=False)


class Network(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.plan = pathlib.Path(cls.folder.name) / "net.slalom"
        run(BIN / "slalom", "model", "mobilenet", "-o", cls.plan, "--input-size", 32, "--classes", 10)
        cls.expected = cls.outputs(run(BIN / "slalom", "run", cls.plan, "--input", "random:16", "--json",
                                       "--device", "none", "--integrity", "off"))
        cls.worker = subprocess.Popen(inside(THERE, BIN / "slalom", "device", "--listen", WORKER),
                                      stdout=subprocess.PIPE, text=True)
        assert WORKER in cls.worker.stdout.readline()

    @classmethod
    def tearDownClass(cls):
        cls.worker.kill()
        cls.worker.wait()
        cls.worker.stdout.close()
        cls.folder.cleanup()

    def tearDown(self):
        for space, device in ((HERE, "near0"), (THERE, "far0")):
            run(*inside(space, "nft", "flush", "ruleset"))
            run(*inside(space, "tc", "qdisc", "del", "dev", device, "root"), check=False)
            run("ip", "-n", space, "link", "set", device, "up")

    @staticmethod
    def outputs(done):
        return json.loads(done.stdout)["outputs"]

    def command(self, *options):
        return inside(HERE, BIN / "slalom", "run", self.plan, "--input", "random:16", "--json",
                      "--device", f"tcp:{WORKER}", "--placement", "outside", *options)

    def expect_right(self, *options):
        done = run(*self.command(*options), check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.outputs(done), self.expected)
        self.assertEqual(json.loads(done.stdout)["checks"]["failed"], 0)
        return json.loads(done.stdout)

    def test_a_link_of_limited_rate(self):
        free = self.expect_right("--privacy", "pads")
        for space, device in ((HERE, "near0"), (THERE, "far0")):
            run(*inside(space, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", "40mbit", "burst",
                        "32kb", "latency", "100ms"))
        limited = self.expect_right("--privacy", "pads")
        # Answers cannot have come faster than the link, less what its buffers hold.
        seconds = limited["traffic"]["bytes_in"] * 8 / 40e6
        self.assertGreater(limited["timing"]["wall_s"], 0.5 * seconds)
        self.assertGreater(limited["timing"]["wall_s"], free["timing"]["wall_s"])

    def test_a_link_that_loses_packets(self):
        for space in (HERE, THERE):
            lose(space, 50)
        self.expect_right()
        self.expect_right("--privacy", "pads", "--tcp-streams", "8")

    def test_a_link_that_goes_away_for_a_moment(self):
        run_here = subprocess.Popen(
            inside(HERE, BIN / "slalom", "run", self.plan, "--input", "random:3000", "--json", "--device",
                   f"tcp:{WORKER}", "--placement", "outside"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        run("ip", "-n", HERE, "link", "set", "near0", "down")
        time.sleep(1)
        run("ip", "-n", HERE, "link", "set", "near0", "up")
        out, errors = run_here.communicate(timeout=60)
        self.assertEqual(run_here.returncode, 0, errors)
        self.assertEqual(json.loads(out)["outputs"][:16], self.expected)

    def test_a_link_that_goes_away(self):
        run_here = subprocess.Popen(
            inside(HERE, BIN / "slalom", "run", self.plan, "--input", "random:100000", "--device",
                   f"tcp:{WORKER}", "--placement", "outside", "--timeout-ms", "2000"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        run("ip", "-n", HERE, "link", "set", "near0", "down")
        begin = time.monotonic()
        _, errors = run_here.communicate(timeout=60)
        self.assertEqual(run_here.returncode, 4, errors)
        self.assertLess(time.monotonic() - begin, 30)
        run("ip", "-n", HERE, "link", "set", "near0", "up")
        time.sleep(6)  # until the worker has noticed as well
        self.expect_right()


if __name__ == "__main__":
    for tool in ("ip", "tc", "nft"):
        if shutil.which(tool) is None:
            sys.exit(print(f"skipped: there is no {tool} here") or SKIP)
    try:
        make_network()
    except subprocess.CalledProcessError as error:
        remove_network()
        sys.exit(print(f"skipped: {' '.join(error.cmd)}: {error.stderr.strip()}") or SKIP)
    try:
        unittest.main(argv=sys.argv[:1], verbosity=2)
    finally:
        remove_network()
