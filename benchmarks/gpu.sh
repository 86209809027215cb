#!/usr/bin/env bash
# Everything that wants a GPU, on a bare machine that has a CUDA torch, nvcc and no network: build, tests, benchmarks.
# Writes JSON and logs under ${OUT:-benchmarks/results/local} and prints a short table last. A part that fails does not
# keep the others from running; the exit status tells.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${OUT:-benchmarks/results/local}"
mkdir -p "$out"
status=0
table=()
part() { # name, command...
  local start=$SECONDS
  if "${@:2}" > "$out/$1.log" 2>&1; then
    table+=("$1: fine, $((SECONDS - start)) s: $(tail -n 1 "$out/$1.log")")
  else
    table+=("$1: FAILED, see $1.log: $(tail -n 1 "$out/$1.log")")
    status=1
  fi
}

python="${PYTHON:-python3}"
part build env DETPROBE_CUDA=1 "$python" setup.py -q build_ext --inplace
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
part environment "$python" -m detprobe env
part tests "$python" -m pytest -q -p no:cacheprovider tests -k "cuda or bits or emulator"
part scan_cuda "$python" benchmarks/scan.py --device cuda --json "$out/scan_cuda.json"
part scan_cpu "$python" benchmarks/scan.py --device cpu --rounds 3 --json "$out/scan_cpu.json"
part reductions "$python" -m benchmarks.reductions --device cuda --json "$out/reductions_cuda.json" \
  --plot "$out/reductions_cuda.png"
part scatter "$python" -m benchmarks.scatter --device cuda --json "$out/scatter_cuda.json" \
  --plot "$out/scatter_cuda.png"
part gnn "$python" examples/gnn.py --device cuda
printf '%s\n' "${table[@]}" | tee "$out/table.txt"
exit $status
