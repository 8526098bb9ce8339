# SPDX-License-Identifier: Apache-2.0
"""The processes that run.py measures: workers with one engine each, and the program of Slalom itself."""
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SLALOM_PEERS = {"slalom-int8": "trusted only, int8", "slalom-fp32": "float32 baseline"}


class Failure(Exception):
    """One step of an engine went wrong; the engine itself may go on."""


class Broken(Failure):
    """The engine is of no more use: its process ended, or its answer may come at any time."""


class Worker:
    """One engine in its process; stopped except while it answers."""

    def __init__(self, peer, model, folder, cores, log):
        threads = str(len(cores))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
                       "OPENBLAS_NUM_THREADS": threads, "PYTHONDONTWRITEBYTECODE": "1"}
        self.peer, self.buffer = peer, b""
        self.process = subprocess.Popen(
            [sys.executable, HERE / "worker.py", peer, model, folder, ",".join(map(str, cores))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment)

    def read(self, timeout):
        end = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise Broken(f"no answer within {timeout:.0f} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise Broken(f"the process ended with status {self.process.wait()}")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        answer = json.loads(line)
        if answer.get("status") == "failed":
            raise Failure(answer["error"])
        return answer

    def made(self, timeout):
        """What became of the engine; the process is stopped from then on."""
        answer = self.read(timeout)
        self.stop()
        return answer

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def order(self, timeout, **what):
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()
            return self.read(timeout)
        except BrokenPipeError:
            raise Broken(f"the process ended with status {self.process.wait()}") from None
        finally:
            self.stop()

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in self.process.stdin, self.process.stdout:
            try:
                pipe.close()
            except BrokenPipeError:
                pass


class Slalom:
    """Slalom's own baseline, everything inside the trusted process, no device. Each repetition is a
    `slalom bench` of its own, bound to the same cores; its plan is made once."""

    def __init__(self, peer, model, cores, options):
        self.program, self.cores, self.mode = options.slalom, cores, SLALOM_PEERS[peer]
        self.plan = options.folder / f"{model}.slalom"

    def made(self, timeout):
        if not self.plan.exists():
            name = self.plan.stem
            made = subprocess.run([self.program, "model", name, "-o", self.plan],
                                  capture_output=True, text=True, timeout=timeout)
            if made.returncode != 0:
                raise Failure(made.stderr.strip() or made.stdout.strip())
        return {"status": "ok", "settings": {"mode": self.mode}}

    def order(self, timeout, do, batch=1, streams=1, seconds=0.0):
        if do == "finish":
            return {}
        command = ["taskset", "-c", ",".join(map(str, self.cores)), self.program, "bench", self.plan,
                   "--only", self.mode, "--json", "--seconds", str(max(seconds, 0.05)),
                   "--trusted-threads", str(len(self.cores)), "--micro-batch", str(batch)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"no answer within {timeout:.0f} s") from None
        if done.returncode != 0:
            raise Failure(done.stderr[-500:])
        row = json.loads(done.stdout)["modes"][0]
        if do == "warm":
            return {"images_per_s": row["images_per_s"]}
        return {"images": row["images"], "wall_s": row["wall_s"]}

    def close(self):
        pass
