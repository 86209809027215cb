#!/usr/bin/env bash
# Rung 5: the whole CUDA extension against a CUDA torch, on a machine that need not have a GPU: it compiles, links,
# imports, and every op that takes tensors has a CUDA kernel. Only the kernels cannot run. The probe of cuDNN meets the
# real library: its declarations are those of the header, its calls are there, and without a GPU it says one sentence.
# VENV_CUDA is an environment of its own, made when it is not there (5 GB). Builds in a copy of the tree, so that the
# CPU build of the checkout stays as it is. Wants nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="$(realpath -s "${VENV_CUDA:-.venv-cuda}")"
command -v nvcc > /dev/null || { echo "no nvcc on PATH"; exit 3; }


pip() { "$venv/bin/python" -m pip install -q "$@"; }
if [[ ! -x "$venv/bin/python" ]]; then
  echo "cuda: creating $venv"
  "${PYTHON:-python3}" -m venv "$venv"
fi
# TORCH_CUDA has to be a build for the major version of the toolkit, here CUDA 13.
"$venv/bin/python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' \
  || pip "${TORCH_CUDA:-torch==2.11.0}"
# torch is named so that pip keeps what it wants of setuptools; it is there, and stays.
pip torch numpy 'rich>=13' 'setuptools>=77' wheel ninja 'pybind11>=2.13'

tree="$(mktemp -d)"
trap 'rm -rf "$tree"' EXIT
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$tree"
cd "$tree"
echo "cuda: build with $("$venv/bin/python" -c 'import torch; print("torch", torch.__version__)')"
# One architecture and PTX, and one instruction set of the CPU, to stay in time.
PATH="$venv/bin:$PATH" DETPROBE_CUDA=1 DETPROBE_ISA=baseline TORCH_CUDA_ARCH_LIST="9.0+PTX" \
  "$venv/bin/python" setup.py -q build_ext --inplace > build.log 2>&1 || { cat build.log; exit 1; }

"$venv/bin/python" - << 'PY'
import sys

import torch

import detprobe._C

has = torch._C._dispatch_has_kernel_for_dispatch_key
names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("detprobe::")]
takes = {name: "Tensor" in str(torch._C._get_schema(*(name.split(".") + [""])[:2])) for name in sorted(names)}
# The twins of aten's ops, which call those, have one kernel for every device.
lacking = [
    name
    for name, tensors in takes.items()
    if tensors and not (has(name, "CUDA") or has(name, "CompositeExplicitAutograd"))
]
print("cuda:", torch.ops.detprobe.build_info())
print("cuda:", sum(takes.values()), "ops with tensors; without a CUDA kernel:", ", ".join(lacking) or "none")
sys.exit(1 if lacking or not any(takes.values()) or "no CUDA" in torch.ops.detprobe.build_info() else 0)
PY

python="$venv/bin/python"
cudnn="$("$python" -c 'from detprobe.probes._cudnn import library; print(library())')"
[[ -f "$cudnn" ]] || { echo "cuda: this torch brings no cuDNN"; exit 1; }
toolkit="$(nvcc --dryrun -x cu -c /dev/null 2>&1 | sed -n 's/^#$ TOP=//p')"
echo "cuda: cuDNN's header against csrc/probes/cudnn_api.h"
"${CXX:-g++}" -std=c++17 -fsyntax-only -Wno-deprecated-declarations -I"$(dirname "$cudnn")/../include" \
  -I"$toolkit/include" .ci/cudnn_api.cpp

"$python" - << 'PY'
import torch

import detprobe
from detprobe import probes
from detprobe.probes import _cudnn
from detprobe.probes._native import native

print("cuda: cuDNN", torch.backends.cudnn.version(), "by", _cudnn.library())
assert native().cuda, "detprobe._probes was built without CUDA"
if torch.cuda.is_available():
    print("cuda: cuDNN", _cudnn.open_session().version, "opened")
else:
    for ask in (_cudnn.open_session, lambda: probes.conv(device="cuda"), lambda: probes.atomic_add(device="cuda")):
        try:
            ask()
        except detprobe.NotAvailableError as error:
            print("cuda: without a GPU:", error)
        else:
            raise SystemExit("a probe ran without a GPU")
PY

# A program beside the library: it cannot run here, but it has to compile. CUDA 13.0's own headers are too old for it.
pip --no-deps --target "$tree/cccl" 'nvidia-cuda-cccl>=13.1'
nvcc -std=c++17 -arch=sm_90 -I"$(echo "$tree"/cccl/nvidia/*/include/cccl)" -o "$tree/cub_zero" benchmarks/cub_zero.cu
echo "cuda: benchmarks/cub_zero.cu compiles"
