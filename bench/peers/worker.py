#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures one engine, in a process of its own, on the orders of run.py.

  worker.py PEER NETWORK FOLDER CORES     CORES: 0,1,2,...

One JSON object a line: first what became of the engine, then an answer to each order on standard input:
  {"do": "warm", "batch": b, "streams": s, "seconds": t}     -> images_per_s (a first estimate), cosine, builds
  {"do": "measure", "batch": b, "streams": s, "seconds": t}  -> images, wall_s, calls_ms (one stream only)
  {"do": "finish"}                                           -> peak_rss_mib
"""
import json
import os
import pathlib
import resource
import sys
import threading
import time

import engines  # before anything that starts threads

LOWEST_COSINE = 0.95  # of an answer with the float logits: below, what was measured is not this network
BUILDS = 8            # OpenVINO with several streams builds a wrong network now and then, and the next is right
WARM_CALLS = 4        # tracing executors settle in the third call,
WARM_SECONDS = 1      # and where a call takes long, its first is not much slower than the others


class Runner:
    def __init__(self, engine):
        self.engine = engine
        self.made = {}

    def calls(self, order):
        key = order["batch"], order["streams"]
        if key not in self.made:
            self.made[key] = self.engine.calls(*key)
        return self.made[key]

    def until(self, calls, batch, seconds, least=0):
        """Runs every stream again and again for so long; (images, wall seconds, milliseconds a call)."""
        streams, failures = len(calls), []
        times = [[] for _ in calls]
        barrier = threading.Barrier(streams)

        def stream(i):
            try:
                self.engine.enter(streams)
                barrier.wait()
                before = time.perf_counter()
                end, latest = before + seconds, before + WARM_SECONDS
                while before < end or (len(times[i]) < least and before < latest):
                    calls[i]()
                    now = time.perf_counter()
                    times[i].append(1e3 * (now - before))
                    before = now
            except Exception as error:
                barrier.abort()
                failures.append(error)

        start = time.perf_counter()
        if streams == 1:
            stream(0)
        else:
            threads = [threading.Thread(target=stream, args=(i,)) for i in range(streams)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        wall = time.perf_counter() - start
        if failures:
            raise failures[0]
        return batch * sum(map(len, times)), wall, times[0] if streams == 1 else None

    def right(self, order):
        """Functions whose answers are right, and how right; and how many builds it took."""
        known = min(len(self.engine.expected), order["batch"])
        for build in range(1, BUILDS + 1):
            calls = self.calls(order)
            cosine = min(engines.cosine(call()[:known], self.engine.expected[:known]) for call in calls)
            if cosine >= LOWEST_COSINE:
                return calls, cosine, build
            del self.made[order["batch"], order["streams"]]
        raise ValueError(f"wrong answer: cosine {cosine:.3f} with the float network, in {BUILDS} builds")

    def warm(self, order):
        calls, cosine, builds = self.right(order)
        self.until(calls, order["batch"], order["seconds"], WARM_CALLS)
        images, wall, _ = self.until(calls, order["batch"], order["seconds"])
        return {"images_per_s": images / wall, "cosine": round(cosine, 4), "builds": builds}

    def measure(self, order):
        images, wall, calls_ms = self.until(self.calls(order), order["batch"], order["seconds"])
        return {"images": images, "wall_s": wall, "calls_ms": calls_ms}

    def finish(self, _):
        return {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def main():
    peer, network, folder, cores = sys.argv[1:]
    # Libraries print where they like; the answers have a file of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(what):
        answers.write(json.dumps(what) + "\n")

    cores = [int(core) for core in cores.split(",")]
    # OpenVINO looks at the cores it has when it is loaded; PyTorch does not, and may quantise on all of them.
    if not peer.startswith("torch"):
        engines.pin(cores)
    start = time.perf_counter()
    try:
        engine = engines.make(peer, network, pathlib.Path(folder), len(cores))
        engines.pin(cores)
    except engines.Unavailable as error:
        return answer({"status": "unavailable", "error": str(error)})
    except Exception as error:
        return answer({"status": "failed", "error": f"{type(error).__name__}: {error}"})
    runner = Runner(engine)
    answer({"status": "ok", "setup_s": round(time.perf_counter() - start, 2), "settings": engine.settings})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer({"status": "ok", **getattr(runner, order["do"])(order)})
        except Exception as error:
            answer({"status": "failed", "error": f"{type(error).__name__}: {error}"})
        if order["do"] == "finish":
            return None
    return None


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # some libraries wait for their threads
