"""Builds a file of tests/emulated with the host's compiler: kernels for the emulator that no user gets."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path

import pybind11

ROOT = Path(__file__).parent.parent


def build(name, folder):
    """The module `name` of tests/emulated/<name>.cpp, compiled into a folder."""
    target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = [
        *os.environ.get("CXX", "c++").split(),
        *"-std=c++17 -O1 -g0 -fPIC -shared -fvisibility=hidden -ffp-contract=off".split(),
        f"-I{pybind11.get_include()}",
        f"-I{sysconfig.get_path('include')}",
        str(ROOT / "tests" / "emulated" / f"{name}.cpp"),
        str(ROOT / "csrc" / "emulator" / "emulator.cpp"),
        *("-o", str(target)),
    ]
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # a sanitizer is for the tests
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loader = importlib.machinery.ExtensionFileLoader(name, str(target))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
