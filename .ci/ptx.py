"""Rung 5: the float contract, read from the PTX of the CUDA kernels. Needs nvcc, no GPU.

Guaranteed for what passes: every float operation rounds once, to nearest, where the source writes it. So
  - no `fma` that is not `fma.rn`, and as many of them under -fmad=true as under -fmad=false: none that nobody wrote,
  - no bare `add`, `sub`, `mul`, which ptxas may fuse (with `.rn` it never does),
  - no flushed subnormals, no approximations, no tensor cores,
  - no float atomics, whose order is that of arrival; but for the probe of just these, which has to have them.
The flags are those of setup.py. First the checker is checked: kernels that break the contract have to be refused.
"""

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLANTED = """
__global__ void fused(float* x, float a) { x[0] = a * x[1] + x[2]; }
__global__ void bare(float* x, float a) { x[0] = x[1] - a; }
__global__ void approximate(float* x, float a) { x[3] = x[4] / a; }
__global__ void arrival(float* x, double* y) { atomicAdd(x, x[1]); atomicAdd(y, y[1]); }
"""
LAWFUL = """
__global__ void lawful(float* x, float a, unsigned long long* n) {
  x[0] = __fadd_rn(__fmul_rn(a, x[1]), x[2]);
  x[3] = __fmaf_rn(a, x[4], x[5]) / a;
  atomicAdd(n, 1ull);
}
"""
ATOMIC = "float atomic"
SUBJECT = {Path("csrc/probes/atomic_add.cu"): {"f16", "bf16", "f32", "f64"}}
"""Files whose float atomics are what they are for, and the types that these have to be of."""
STATEMENT = re.compile(r"(?:@!?%\w+\s+)?([a-z]\w*(?:[.:]+\w+)*)(?:\s|$)")
LOCATION = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)")
FILE = re.compile(r'\s*\.file\s+(\d+)\s+"([^"]+)"')
FLOATS = {"f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"}


def fault(opcode: str) -> str:
    """Why the contract forbids an instruction; empty where it does not."""
    name, *rest = opcode.split(".")
    words = set(rest)
    if {"approx", "full"} & words:
        return "approximation"
    if "ftz" in words:
        return "flushes subnormals"
    if not FLOATS & words:
        return ""
    if name in ("atom", "red", "multimem") and "add" in words:
        return ATOMIC
    if name in ("mma", "wmma", "wgmma", "tcgen05"):
        return "tensor core"
    if name in ("fma", "mad", "add", "sub", "mul", "div", "sqrt", "rcp") and "rn" not in words:
        return "not rounded to nearest by its text"
    return ""


def instructions(ptx: str) -> Iterator[tuple[str, str]]:
    """(opcode, "file:line" of the source) of every statement. Inline assembly puts several on a line, in braces."""
    files = dict(FILE.match(line).groups() for line in ptx.splitlines() if FILE.match(line))
    place = "?"
    for line in ptx.splitlines():
        if location := LOCATION.match(line):
            place = f"{files.get(location[1], '?')}:{location[2]}"
            continue
        for statement in re.split(r"[;{}]|\$\w+:", line.split("//")[0]):
            if match := STATEMENT.match(statement.strip()):
                yield match[1], place


def faults(ptx: str) -> list[str]:
    return [f"{place}: {opcode}: {why}" for opcode, place in instructions(ptx) if (why := fault(opcode))]


def fmas(ptx: str) -> Counter[str]:
    """How many fused operations each line of the source has become."""
    return Counter(place for opcode, place in instructions(ptx) if opcode.startswith("fma."))


def device_flags() -> list[str]:
    """DEVICE_FLAGS of setup.py, read and not imported: importing it would run setup()."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEVICE_FLAGS":
            return list(eval(compile(ast.Expression(node.value), "setup.py", "eval")))
    sys.exit("ptx: setup.py has no DEVICE_FLAGS any more")


def compiled(source: Path, flags: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.ptx"
        command = ["nvcc", "-arch=sm_90", "-ptx", *dict.fromkeys([*flags, "-lineinfo"]), "-o", str(out), str(source)]
        subprocess.run(command, check=True)
        return out.read_text()


def violations(source: Path, flags: list[str]) -> tuple[list[str], Counter[str]]:
    """What breaks the contract in one file, and how often each float instruction occurs in it."""
    fusing = "-fmad=true" in flags
    rest = [flag for flag in flags if flag not in ("-fmad=true", "-fmad=false")]
    with ThreadPoolExecutor() as pool:
        written, fused = pool.map(partial(compiled, source), [[*rest, "-fmad=false"], [*rest, "-fmad=true"]])
    ptx = fused if fusing else written
    bad = faults(ptx)
    bad += [f"{place}: fused under -fmad=true: write fp.h's functions" for place in sorted(fmas(fused) - fmas(written))]
    counts = Counter(opcode for opcode, _ in instructions(ptx) if FLOATS & set(opcode.split(".")))
    return bad, counts


def check_the_checker() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "planted.cu"
        for text, flags, wanted in (
            (PLANTED, ["-fmad=true", "--use_fast_math"], {"approximation", "subnormals", "atomic", "fused"}),
            (PLANTED, ["-fmad=true"], {"fused", "atomic", "nearest"}),
            (PLANTED, device_flags(), {"fused", "atomic"}),
            (LAWFUL, device_flags(), set()),
        ):
            source.write_text(text)
            found = violations(source, flags)[0]
            if not all(any(word in line for line in found) for word in wanted) or (found and not wanted):
                sys.exit(f"ptx: the checker is broken: {flags} should show {wanted or 'nothing'}, and shows {found}")


def main() -> int:
    if shutil.which("nvcc") is None:
        print("ptx: no nvcc on PATH")
        return 3
    check_the_checker()
    print("ptx: planted kernels are refused")
    bad = []
    for source in sorted((ROOT / "csrc").rglob("*.cu")):
        found, counts = violations(source, device_flags())
        wanted = SUBJECT.get(source.relative_to(ROOT), set())
        added = {word for opcode in counts if fault(opcode) == ATOMIC for word in opcode.split(".")}
        bad += [f"{source}: no atomic addition in {kind}: its subject" for kind in sorted(wanted - added)]
        bad += [line for line in found if not (wanted and line.endswith(ATOMIC))]
        listed = [
            f"{n} {opcode}" for opcode, n in sorted(counts.items()) if not opcode.startswith(("ld.", "st.", "mov."))
        ]
        print(f"ptx: {source.relative_to(ROOT)}: {', '.join(listed) or 'no float instruction'}")
    print(*bad, sep="\n", end="\n" if bad else "")
    print(f"ptx: {len(bad)} breaches of the float contract")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
