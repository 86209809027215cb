"""What a result depends on besides the code: machine, versions, threads, flags. Read once, attached to every report."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

__all__ = ["describe", "read"]

# Libraries that bring kernels or flags of their own; listed where they are installed.
_PACKAGES = ("numpy", "triton", "torchvision", "torch_geometric", "transformers", "lightning")
# Variables that change which kernel runs, or in which order it adds.
_VARIABLES = (
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_CBWR", "KMP_DETERMINISTIC_REDUCTION", "ONEDNN_MAX_CPU_ISA"),
    *("ATEN_CPU_CAPABILITY", "DETPROBE_CPU", "PYTHONHASHSEED", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)


def read() -> dict[str, Any]:
    """The environment as a flat dictionary of plain values; starts no GPU.

    Example:
        >>> detprobe.environment.read()["torch"]
        '2.13.0+cpu'
    """
    from detprobe import __version__

    found: dict[str, Any] = {
        "detprobe": __version__,
        "build": _build(),
        "kernels": _kernels(),
        "probes": _probes(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "openmp": torch.backends.openmp.is_available(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda is not None else None,
        "gpus": _gpus(),
    }
    found.update(_flags())
    found.update({name: os.environ[name] for name in _VARIABLES if name in os.environ})
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe() -> str:
    """The environment as lines for a bug report."""
    values = read()
    width = max(len(name) for name in values)
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


def _build() -> str:
    """How the extension was compiled; a sentence where it is not there, because a bug report wants that too."""
    try:
        import detprobe._C  # noqa: F401 - registers torch.ops.detprobe
    except ImportError as error:
        return f"not built ({error})"
    return str(torch.ops.detprobe.build_info())


def _kernels() -> str:
    """The instruction set of the kernels that are used, or why there is none."""
    try:
        import detprobe._C  # noqa: F401 - registers torch.ops.detprobe

        return str(torch.ops.detprobe.cpu_capability())
    except (ImportError, RuntimeError) as error:  # not built, or a DETPROBE_CPU that means nothing
        return f"none ({str(error).splitlines()[0]})"


def _probes() -> str:
    """What the compiled half of the probes was built with, or why it is not there."""
    try:
        from detprobe import _probes
    except ImportError as error:
        return f"not built ({error})"
    return f"{'CUDA' if _probes.cuda else 'no CUDA'}, declarations of cuDNN {_probes.cudnn_api}"


def _flags() -> dict[str, Any]:
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill_uninitialized_memory": getattr(torch.utils.deterministic, "fill_uninitialized_memory", None),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul_precision": _matmul_precision(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }


def _matmul_precision() -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # torch refuses the old question once the new settings were used
        return "set per backend"


def _cpu_name() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    if line.startswith("model name"):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Name and compute capability of each visible GPU, the driver's CUDA beside it."""
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        found.append(f"{torch.cuda.get_device_name(index)} (sm_{major}{minor})")
    return found
