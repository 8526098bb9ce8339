#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests and measurements that need an NVIDIA GPU, in parts of under nine minutes each.
#
#   bench/gpu.sh [--bin FOLDER] [--out FOLDER] [PART...]
#
# PART: tests    the device suite, every mode and every lie with a GPU behind the workers (label gpu)
#       network  seven networks through the whole pipeline, beside the trusted baselines
#       peers    other engines on the same networks and cores (bench/peers), the plain GPU as well
# Without PART all that OUT has no result of yet. A part that was run is not run again: remove its file
# in OUT to repeat it. Exit status: 0 if every part passed.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin
out=build/gpu
device=cuda:0
parts=()
while (($#)); do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    -h | --help) sed -n '3,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    tests | network | peers) parts+=("$1"); shift ;;
    *) echo "bench/gpu.sh: '$1' is no part; there are tests, network and peers" >&2; exit 1 ;;
  esac
done
((${#parts[@]})) || parts=(tests network peers)
if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L | grep -q GPU; then
  echo "bench/gpu.sh: no NVIDIA GPU on this machine (nvidia-smi -L lists none)" >&2
  exit 4
fi
mkdir -p "$out"

tests() {
  "$bin/device_cuda_test" --gtest_brief=1 && "$bin/system_cuda_test" --gtest_brief=1
}

# For each network and number of trusted threads two runs, each beside the baselines of the same run: verified, placed by
# measurement, and private with every layer outside. Status 75 after some six minutes: the same command goes on.
network() {
  local model threads kind file options end=$((SECONDS + 360))
  mkdir -p "$out/network"
  for model in vgg16 resnet50 mobilenet mobilenet_sep resnet18 resnet152 inception_v3; do
    [[ -f $out/$model.slalom ]] || "$bin/slalom" model "$model" -o "$out/$model.slalom" || return 1
    for threads in $(($(nproc) - 1)) 4 1; do
      for kind in verified private; do
        file=$out/network/$model-$threads-$kind.json
        [[ -s $file ]] && continue
        ((SECONDS < end)) || return 75
        options=(--only "float32|trusted only|verified, pre")
        [[ $kind == private ]] && options=(--placement outside --only "trusted only|private +")
        timeout 170 "$bin/slalom" bench "$out/$model.slalom" --device "$device" --trusted-threads "$threads" \
          --seconds 1 --json "${options[@]}" >"$file.part" && mv "$file.part" "$file" || return 1
      done
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
