#!/usr/bin/env bash
# Everything that wants a GPU, on a bare machine that has a CUDA torch, nvcc and no network, inside nine minutes.
#
#   benchmarks/gpu.sh [--only build,test,probes,reductions,scatter,scan] [--minutes 9]
#
# Writes JSON, logs and plots under ${OUT:-benchmarks/results/local}, and last the table of all parts, those of earlier
# calls too: parts can be run one by one, and what takes too long is cut off and can be run again by itself. A part that
# fails does not keep the others from running; the exit status tells.
set -uo pipefail
cd "$(dirname "$0")/.."
parts=(build test probes reductions scatter scan)
only="$(IFS=,; echo "${parts[*]}")"
minutes=9
usage() { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
while (($#)); do
  case $1 in
    --only) (($# > 1)) || usage; only=$2 ;;
    --minutes) (($# > 1)) || usage; minutes=$2 ;;
    *) usage ;;
  esac
  shift 2
done
for name in ${only//,/ }; do
  [[ " ${parts[*]} " == *" $name "* ]] || { echo "gpu.sh: no part is called $name: one of ${parts[*]}" >&2; exit 2; }
done

out="${OUT:-benchmarks/results/local}"
mkdir -p "$out/parts"
python="${PYTHON:-python3}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
status=0
deadline=$((SECONDS + minutes * 60))

# step NAME PART COMMAND...: runs where the part is wanted, for as long as there is time, into NAME.log. A command that
# answers FINDINGS (what `detprobe probe` does when it shows something) has done its work as well.
FINDINGS=""
step() {
  local name=$1 part=$2 start=$SECONDS left=$((deadline - SECONDS)) code
  [[ ",$only," == *",$part,"* ]] || return 0
  if ((left < 5)); then
    code="no time left"
  else
    timeout --kill-after=5 "$left" "${@:3}" > "$out/$name.log" 2>&1
    code=$?
  fi
  case $code in
    0 | "$FINDINGS") echo "$name: fine, $((SECONDS - start)) s: $(tail -n 1 "$out/$name.log")" ;;
    124 | 137) echo "$name: CUT OFF after $((SECONDS - start)) s: --only $part runs it by itself" && status=1 ;;
    "no time left") echo "$name: DID NOT RUN, no time left: --only $part runs it by itself" && status=1 ;;
    *) echo "$name: FAILED ($code), see $name.log: $(tail -n 1 "$out/$name.log")" && status=1 ;;
  esac > "$out/parts/$name"
}

# Only for this GPU: all architectures take longer than everything else.
arch="$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())' 2> /dev/null || true)"
[[ -n "$arch" ]] || { echo "gpu.sh: torch sees no GPU here" >&2; exit 3; }
export TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-$arch}" MAX_JOBS="${MAX_JOBS:-$(nproc)}"

step build build env DETPROBE_CUDA=1 DETPROBE_ISA="${DETPROBE_ISA:-avx2}" "$python" setup.py -q build_ext --inplace
step environment build "$python" -m detprobe env
step tests test "$python" -m pytest -q --maxfail=20 -p no:cacheprovider tests -k "cuda or gpu or bits or emulator"
FINDINGS=1
for probe in atomic_add gemm reduction_order environment_sensitivity advise conv; do
  step "probe_$probe" probes "$python" -m detprobe probe "$probe" --device cuda --json "$out/probe_$probe.json" \
    --html "$out/probe_$probe.html"
done
FINDINGS=""
# CUB's own question: the headers are those of the nvidia-cuda-cccl wheel, where that was carried along.
cccl="${CCCL_INCLUDE:-$("$python" -c 'import glob, site; print(*glob.glob(
    site.getsitepackages()[0] + "/nvidia/*/include/cccl")[:1])' 2> /dev/null)}"
if [[ -n "$cccl" ]]; then
  cub_zero() { nvcc -std=c++17 -arch=native -I"$cccl" -o "$out/parts/cub_zero.bin" benchmarks/cub_zero.cu; }
  [[ ",$only," != *,probes,* ]] || cub_zero > "$out/cub_zero_build.log" 2>&1
  FINDINGS=1
  step cub_zero probes "$out/parts/cub_zero.bin"
  FINDINGS=""
fi
step reductions reductions "$python" -m benchmarks.reductions --device cuda --json "$out/reductions_cuda.json" \
  --plot "$out/reductions_cuda.png"
step scatter scatter "$python" -m benchmarks.scatter --device cuda --json "$out/scatter_cuda.json" \
  --plot "$out/scatter_cuda.png"
step gnn scatter "$python" examples/gnn.py --device cuda
step scan_cuda scan "$python" benchmarks/scan.py --device cuda --json "$out/scan_cuda.json"
step scan_cpu scan "$python" benchmarks/scan.py --device cpu --rounds 3 --json "$out/scan_cpu.json"

rm -f "$out/parts/cub_zero.bin"
cat "$out"/parts/* | tee "$out/table.txt"
exit $status
