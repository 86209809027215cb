"""What a scan costs: wall time and peak memory against the plain training step, in the same run.

    python benchmarks/scan.py [--device cuda] [--rounds 5] [--json F]

Bounds that the project sets itself: wall time <= 1.5 x (replays + 1) x the plain step, and peak memory <= that of the
plain step + twice the tensors of its largest op. Both are medians (time) or maxima (memory) over interleaved rounds.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import detprobe
from detprobe import environment
from detprobe.scanning._tree import tensors_in

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

TIME_BOUND = 1.5
MEMORY_BOUND = 2.0


def gpt2(device: str) -> tuple[Any, Any, Any]:
    """4 layers, width 256, batch 4 x 128 tokens, dropout on."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=4, n_embd=256, n_head=4, vocab_size=5000, n_positions=128, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config).train().to(device)
    tokens = torch.randint(0, config.vocab_size, (4, 128), device=device)

    def loss(out: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    return model, {"input_ids": tokens}, loss


def schnet(device: str) -> tuple[Any, Any, Any]:
    """300 atoms of copper, energies and forces."""
    import schnet_forces

    model, (z, pos, batch), loss = schnet_forces.make()
    pos = pos.detach()[:300].to(device).requires_grad_()
    return model.to(device), (z[:300].to(device), pos, batch[:300].to(device)), loss


def tiny(device: str) -> tuple[Any, Any, Any]:
    """500 additions of one element: nothing but the cost per op."""

    def chain(x: torch.Tensor) -> torch.Tensor:
        for _ in range(500):
            x = x + 1.0
        return x

    return chain, torch.randn(1, device=device, requires_grad=True), torch.sum


def stepper(model: Any, inputs: Any, loss: Any) -> Callable[[], None]:
    """The plain step, as a user runs it."""
    leaves = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    leaves += [t for t in tensors_in(inputs) if t.requires_grad]

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        positional = inputs if isinstance(inputs, tuple) else (() if isinstance(inputs, dict) else (inputs,))
        output = model(*positional, **(inputs if isinstance(inputs, dict) else {}))
        loss(output).backward()

    return step


class LargestOp(TorchDispatchMode):
    """Bytes of all tensors of the op that has most of them, and the number of op calls."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        storages = {
            t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors_in((args, kwargs, output))
        }
        self.bytes = max(self.bytes, sum(storages.values()))
        self.calls += 1
        return output


def seconds(function: Callable[[], Any], device: str) -> float:
    """Wall time of one call, s, with the device's work in it."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(function: Callable[[], Any], device: str) -> int:
    """The most that is allocated at once during a call, above what was there before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        function()
    events = [event for event in run.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def measure(name: str, make: Callable[[str], Any], device: str, replays: int, rounds: int) -> dict[str, Any]:
    model, inputs, loss = make(device)
    step = stepper(model, inputs, loss)

    def scan() -> detprobe.Report:
        return detprobe.scan(model, inputs, loss=loss, replays=replays)

    step()
    findings = [f"{finding.op} {finding.location}" for finding in scan().findings]
    plain_times, scan_times = [], []
    for _ in range(rounds):
        plain_times.append(median(seconds(step, device) for _ in range(5)))
        scan_times.append(seconds(scan, device))
    with LargestOp() as largest:
        step()
    plain, scanned = median(plain_times), median(scan_times)
    plain_peak, scan_peak = peak_bytes(step, device), peak_bytes(scan, device)
    budget = (replays + 1) * plain
    return {
        "model": name,
        "device": device,
        "replays": replays,
        "calls": largest.calls,
        "findings": findings,
        "plain_ms": 1e3 * plain,
        "scan_ms": 1e3 * scanned,
        "time_ratio": scanned / budget,
        "time_bound": TIME_BOUND,
        "overhead_us_per_call": 1e6 * (scanned - budget) / largest.calls,
        "plain_peak_mib": plain_peak / 2**20,
        "scan_peak_mib": scan_peak / 2**20,
        "largest_op_mib": largest.bytes / 2**20,
        "memory_in_largest_ops": (scan_peak - plain_peak) / largest.bytes,
        "memory_bound": MEMORY_BOUND,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--replays", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'model':<8}{'plain':>11}{'scan':>11}{'x (r+1) plain':>15}{'per call':>11}{'extra memory':>22}   in bounds")
    rows = []
    for make in (gpt2, schnet, tiny):
        row = measure(make.__name__, make, options.device, options.replays, options.rounds)
        rows.append(row)
        bounded = make is not tiny  # an op of no size has no plain step to speak of
        fine = row["time_ratio"] <= TIME_BOUND and row["memory_in_largest_ops"] <= MEMORY_BOUND
        extra = f"{row['memory_in_largest_ops']:.2f} x largest op" if bounded else "-"
        print(
            f"{row['model']:<8}{row['plain_ms']:>8.1f} ms{row['scan_ms']:>8.0f} ms{row['time_ratio']:>15.2f}"
            f"{row['overhead_us_per_call']:>8.1f} us{extra:>22}"
            f"   {('yes' if fine else 'NO') if bounded else '-'}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"environment": environment.read(), "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
