"""Builds the extension: `detprobe._C` (torch ops) and `detprobe._probes`, for CPU always, for CUDA where it can be, and
`detprobe._emulator`.

Everything static is in pyproject.toml. DETPROBE_CUDA=0 leaves CUDA out, =1 demands it; unset, it is built when torch
has CUDA and a toolkit is there, also on a machine without a GPU. FORCE_CUDA=1 means the same as DETPROBE_CUDA=1.
DETPROBE_ISA=baseline leaves out the kernels for AVX2 and AVX-512, and DETPROBE_CXXFLAGS are flags behind our own: both
are for builds that are thrown away.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup


def find_toolkit() -> None:
    """Set CUDA_HOME: torch takes the folder of nvcc for it, and what is on PATH may be a link or a wrapper script."""
    nvcc = shutil.which("nvcc")
    if nvcc is None or os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return
    said = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
    top = re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE)
    if top and (Path(top[1]) / "include").is_dir():
        os.environ["CUDA_HOME"] = str(Path(top[1]).resolve())


find_toolkit()
try:
    import pybind11
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension
except ImportError:
    sys.exit(
        "detprobe compiles against the torch that you run, and there is none in this environment. Type:\n"
        "    pip install torch numpy setuptools wheel ninja pybind11\n"
        "    pip install --no-build-isolation -e ."
    )

ROOT = Path(__file__).parent
# -O2: the kernels are written in vectors, and -O3 only takes longer. Contraction would fuse a * b + c into one rounding
# where the text of an order says two. -g0: debugging information is ten times the code here, and a sixth of the time.
HOST_FLAGS = ["-O2", "-g0", "-ffp-contract=off", "-fno-fast-math", "-fvisibility=hidden", "-Wall"]
# at::parallel_for is a loop on one thread in a file compiled without OpenMP. Only compiled: the linker is not told, so
# that the runtime is the one that libtorch_cpu brings, and torch.set_num_threads is heard.
HOST_FLAGS += ["-fopenmp"] if torch.backends.openmp.is_available() else []
HOST_FLAGS += os.environ.get("DETPROBE_CXXFLAGS", "").split()
DEVICE_FLAGS = [
    *("-O3", "-fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false", "-lineinfo"),
    "-Xcompiler=-ffp-contract=off",
]
# What torch.cuda.get_arch_list() cannot tell without a GPU; from Turing on, and PTX for what comes after.
ARCHS = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


def wants_cuda() -> bool:
    """Whether to compile the CUDA half, or a sentence why it cannot be had although it was demanded."""
    wish = os.environ.get("DETPROBE_CUDA") or ("1" if os.environ.get("FORCE_CUDA") == "1" else "")
    if wish == "0":
        return False
    missing = ""
    if torch.version.cuda is None:
        missing = f"this torch ({torch.__version__}) is built without CUDA"
    elif CUDA_HOME is None:
        missing = "no CUDA toolkit was found: put nvcc on PATH or set CUDA_HOME to the folder that holds include/"
    if wish == "1" and missing:
        sys.exit(f"DETPROBE_CUDA=1 asks for CUDA kernels, but {missing}.")
    return not missing


def arch_list() -> str:
    """TORCH_CUDA_ARCH_LIST, or what both this torch and this nvcc know: torch's own default needs a visible GPU."""
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if not chosen:
        major = int(torch.version.cuda.split(".")[0])
        known = [a for a in ARCHS if major >= 13 or float(a) < 10] if major >= 12 else ["7.5", "8.0", "8.6"]
        chosen = ";".join(known) + "+PTX"
        os.environ["TORCH_CUDA_ARCH_LIST"] = chosen
    return chosen


def sources(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / "csrc").glob(pattern))


def instruction_sets() -> tuple[list[str], list[tuple[str, None]]]:
    """The files of DETPROBE_ISA, by default all, and the macros that say which are left out. Baseline always is in."""
    wanted = {"baseline", *os.environ.get("DETPROBE_ISA", "avx2 avx512").split()}
    files = [name for name in sources("cpu/isa_*.cpp") if Path(name).stem.split("_")[1] in wanted]
    return files, [(f"DETPROBE_WITHOUT_{name.upper()}", None) for name in ("avx2", "avx512") if name not in wanted]


def headers() -> list[str]:
    return [str(path) for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cuh")]


def extensions() -> list:
    isa, macros = instruction_sets()
    ops = sources("*.cpp", "cpu/[!i]*.cpp", "tensor/*.cpp") + isa
    probes = sources("probes/*.cpp")
    if wants_cuda():
        defines = [
            ("DETPROBE_CUDA_VERSION", f'"{torch.version.cuda}"'),
            ("DETPROBE_CUDA_ARCHS", f'"{arch_list()}"'),
        ]
        native = CUDAExtension(
            "detprobe._C",
            ops + sources("cuda/*.cpp", "cuda/*.cu"),
            define_macros=defines + macros,
            extra_compile_args={"cxx": HOST_FLAGS, "nvcc": DEVICE_FLAGS},
            depends=headers(),
        )
        probing = CUDAExtension(
            "detprobe._probes",
            probes + sources("probes/*.cu"),
            include_dirs=[pybind11.get_include()],
            define_macros=[("DETPROBE_PROBES_CUDA", None)],
            extra_compile_args={"cxx": HOST_FLAGS, "nvcc": DEVICE_FLAGS},
            depends=headers(),
        )
    else:
        native = CppExtension(
            "detprobe._C", ops, define_macros=macros, extra_compile_args={"cxx": HOST_FLAGS}, depends=headers()
        )
        probing = CppExtension(
            "detprobe._probes",
            probes,
            include_dirs=[pybind11.get_include()],
            extra_compile_args={"cxx": HOST_FLAGS},
            depends=headers(),
        )
    emulator = CppExtension(
        "detprobe._emulator",
        sources("emulator/*.cpp"),
        include_dirs=[pybind11.get_include()],
        extra_compile_args={"cxx": HOST_FLAGS},
        depends=headers(),
    )
    return [native, probing, emulator]


# A module that is imported for its ops alone needs an init function all the same: module.cpp has it.
setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtension.with_options(use_ninja=True)})
