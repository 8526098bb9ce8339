#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The same network through a worker beside the trusted process and through one over TCP, taking turns:
# medians of the rates, and their ratio.
#
#   bench/remote.sh [--bin FOLDER] [--model NAME] [--input-size N] [--device cpu|cuda:N] [--at HOST:PORT]
#                   [--turns N] [--seconds S] [-- OPTIONS OF slalom bench]
#
# Without --at, the worker over TCP is started here, on the loopback interface (then it and the trusted
# process share the processors, as the other one does). With --at, `slalom device --listen HOST:PORT` runs
# there already. Prints one line a mode, and JSON on the last line.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin
model=vgg16
size=64
device=cpu
at=
turns=5
seconds=2
while (($#)); do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --model) model=$2; shift 2 ;;
    --input-size) size=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --at) at=$2; shift 2 ;;
    --turns) turns=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    -h | --help) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --) shift; break ;;
    *) echo "bench/remote.sh: '$1' is not known (see --help)" >&2; exit 1 ;;
  esac
done
work=$(mktemp -d)
worker=
trap '[[ -z $worker ]] || kill "$worker"; rm -rf "$work"' EXIT
"$bin/slalom" model "$model" -o "$work/net.slalom" --input-size "$size" >/dev/null
if [[ -z $at ]]; then
  "$bin/slalom" device --listen 127.0.0.1:0 --device "$device" >"$work/worker" &
  worker=$!
  for _ in $(seq 100); do
    [[ -s $work/worker ]] && break
    sleep 0.1
  done
  at=$(sed 's/.*tcp://' "$work/worker")
fi
for turn in $(seq "$turns"); do
  for way in shared tcp; do
    spec=$device
    [[ $way == shared ]] || spec=tcp:$at
    "$bin/slalom" bench "$work/net.slalom" --json --only verified --seconds "$seconds" --device "$spec" --placement outside "$@" \
      >"$work/$way.$turn.json"
  done
done
python3 - "$work" "$turns" "$model" "$size" "$device" <<'PYTHON'
import json, pathlib, statistics, sys
work, turns, model, size, device = pathlib.Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
def rates(way):
    out = {}
    for turn in range(1, turns + 1):
        for row in json.loads((work / f"{way}.{turn}.json").read_text())["modes"]:
            out.setdefault(row["mode"], []).append(row["images_per_s"])
    return out
shared, tcp = rates("shared"), rates("tcp")
rows = {mode: {"shared_images_per_s": statistics.median(shared[mode]),
               "tcp_images_per_s": statistics.median(tcp[mode]),
               "ratio": statistics.median(t / s for t, s in zip(tcp[mode], shared[mode]))}
        for mode in shared}
for mode, row in rows.items():
    print(f"{mode:20} shared memory {row['shared_images_per_s']:8.1f} images/s   "
          f"tcp {row['tcp_images_per_s']:8.1f} images/s   ratio {row['ratio']:.2f}")
print(json.dumps({"model": model, "input_size": int(size), "device": device, "turns": turns, "modes": rows}))
PYTHON
