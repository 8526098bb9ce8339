#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests and measurements that need an NVIDIA GPU, in parts of under nine minutes each.
#
#   bench/gpu.sh [--bin FOLDER] [--out FOLDER] [--short] [--link GB/s] [PART...]
#
# PART: tests    the device suite, every mode and every lie with a GPU behind the workers (label gpu)
#       network  seven networks through the whole pipeline, beside the trusted baselines: medians of five
#                interleaved rounds, then one image at a time; merged into OUT/network.json
#       trace    timelines of VGG16 and ResNet-50, verified and private (OUT/trace-*.json)
#       peers    other engines on the same networks and cores (bench/peers), the plain GPU as well
# Without PART all that OUT has no result of yet. A part that was run is not run again: remove its file
# in OUT to repeat it; one that is not finished goes on with the same command. --short: three networks,
# two numbers of threads (one call). --link: what the link carries each way, to show how full it is.
# Exit status: 0 if every part passed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bin=build/release/bin
out=build/gpu
device=cuda:0
networks=(vgg16 resnet50 mobilenet mobilenet_sep resnet18 resnet152 inception_v3)
threads=($(($(nproc) - 1)) 4 1)
measure=(--repeat 5 --seconds 0.6 --latency 0.5)
parts=()
while (($#)); do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --short) networks=(vgg16 resnet50 mobilenet) threads=($(($(nproc) - 1)) 4); shift ;;
    --link) measure+=(--link "$2"); shift 2 ;;
    -h | --help) sed -n '3,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    tests | network | trace | peers) parts+=("$1"); shift ;;
    *) echo "bench/gpu.sh: '$1' is no part; there are tests, network, trace and peers" >&2; exit 1 ;;
  esac
done
((${#parts[@]})) || parts=(tests network trace peers)
if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L | grep -q GPU; then
  echo "bench/gpu.sh: no NVIDIA GPU on this machine (nvidia-smi -L lists none)" >&2
  exit 4
fi
mkdir -p "$out"

tests() {
  "$bin/device_cuda_test" --gtest_brief=1 && "$bin/system_cuda_test" --gtest_brief=1
}

model() {
  [[ -f $out/$1.slalom ]] || "$bin/slalom" model "$1" -o "$out/$1.slalom"
}

# For each network and number of trusted threads two runs, each beside the baselines of the same run: verified, placed by
# measurement, and private with every layer outside. Status 75 after some six minutes: the same command goes on.
network() {
  local model count kind file options end=$((SECONDS + 360))
  mkdir -p "$out/network"
  for model in "${networks[@]}"; do
    model "$model" || return 1
    for count in "${threads[@]}"; do
      for kind in verified private; do
        file=$out/network/$model-$count-$kind.json
        [[ -s $file ]] && continue
        ((SECONDS < end)) || return 75
        options=(--only "float32|trusted only|verified, pre")
        [[ $kind == private ]] && options=(--placement outside --only "trusted only|private +")
        timeout 170 "$bin/slalom" bench "$out/$model.slalom" --device "$device" --trusted-threads "$count" \
          "${measure[@]}" --json "${options[@]}" >"$file.part" && mv "$file.part" "$file" || return 1
      done
    done
  done
  merge
}

# All results of the network part in one object, as bench/results has them and tools/plots.py draws them.
merge() {
  python3 - "$out" "$(nproc)" "${measure[*]}" <<'END'
import json, pathlib, subprocess, sys
out, cores, options = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def first(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None
cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), None)
gpus = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                      capture_output=True, text=True).stdout.split("\n")
runs = []
for path in sorted((out / "network").glob("*.json")):
    placement = "outside" if path.stem.endswith("-private") else "planned"
    runs.append({**json.loads(path.read_text()), "placement": placement})
(out / "network.json").write_text(json.dumps({
    "machine": {"cpu": cpu, "cores": cores, "gpus": [g.strip() for g in gpus if g.strip()]},
    "commit": first("git", "rev-parse", "HEAD"), "date": first("date", "-u", "+%F"),
    "command": "bench/gpu.sh network: slalom bench MODEL " + options, "runs": runs}, indent=1) + "\n")
print(f"{len(runs)} results in {out / 'network.json'}")
END
}

trace() {
  local model privacy
  for model in vgg16 resnet50; do
    model "$model" || return 1
    for privacy in off pads; do
      "$bin/slalom" run "$out/$model.slalom" --input random:96 --top 1 --device "$device" --placement outside \
        --privacy "$privacy" --trace "$out/trace-$model-$privacy.json" >/dev/null || return 1
    done
  done
}

# Takes longer than one call may: status 75 says that the same command goes on.
peers() {
  python3 bench/peers/run.py --budget 360 --slalom "$bin/slalom" --folder "$out/peers" --out "$out/peers.json"
}

failed=0
for part in "${parts[@]}"; do
  if [[ -f $out/$part.passed ]]; then
    echo "$part: passed before ($out/$part.passed)"
    continue
  fi
  "$part" 2>&1 | tee "$out/$part.log"
  case $? in
    0)
      { nvidia-smi -L; git rev-parse HEAD 2>/dev/null; date -u; } >"$out/$part.passed"
      echo "$part: passed"
      ;;
    75)
      echo "$part: not finished, the same command goes on"
      failed=1
      ;;
    *)
      echo "$part: FAILED ($out/$part.log)"
      failed=1
      ;;
  esac
done
exit $failed
