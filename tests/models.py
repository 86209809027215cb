"""Models that the tests scan: builders only. Every builder seeds torch, so that the same call gives the same model.

Published architectures come from the libraries that publish them, with small configurations and random weights; nothing
is downloaded. A library that is missing skips the test that needs it, except in CI, where it is an error.
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import detprobe

HERE = Path(__file__)
CUTOFF = 6.0  # Angstrom
WIDTH = 128  # with 4 x 128 tokens: above the 32768 elements from which torch uses threads
VOCABULARY = 512


def optional(name: str) -> Any:
    """An optional package; in CI its absence is a failure, not a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what others warn of while they are imported
        if os.environ.get("DETPROBE_CI") == "1":
            return importlib.import_module(name)
        return pytest.importorskip(name)


def line_of(text: str, file: str | Path = HERE) -> int:
    """Number of the one line of a source file that holds `text`."""
    lines = [n for n, line in enumerate(Path(file).read_text().splitlines(), 1) if text in line]
    assert len(lines) == 1, f"{text!r} stands on lines {lines} of {file}, and not on one"
    return lines[0]


def ends_at(location: str, text: str, file: str | Path = HERE) -> bool:
    """True when a report's "file.py:line" is the one line of `file` that holds `text`."""
    return location.replace("\\", "/").endswith(f"{Path(file).name}:{line_of(text, file)}")


def named(report: detprobe.Report) -> set[tuple[str, str, str]]:
    """Op, phase and verdict of every finding."""
    return {(f.op, f.phase, f.verdict) for f in report.findings}


def verdicts(report: detprobe.Report, op: str) -> set[str]:
    """The verdicts of all rows of one op; the op must have been seen."""
    found = {row.verdict for row in report.ops if row.op == op}
    assert found, f"{op} was never seen; seen: {sorted({row.op for row in report.ops})}"
    return found


def threads_overlap() -> bool:
    """A control: a sum that two threads reach, 8 times. On cores that are busy elsewhere threads take turns instead."""
    generator = torch.Generator().manual_seed(0)
    index, terms = torch.randint(0, 500, (38000,), generator=generator), torch.randn(38000, 3, generator=generator)
    sums = [torch.zeros(500, 3).index_put((index,), terms, accumulate=True) for _ in range(8)]
    return len({total.numpy().tobytes() for total in sums}) >= 4


def racing(run: Callable[[], detprobe.Report], limit: float = 180.0) -> detprobe.Report:
    """The report of a scan while which threads overlapped, by the control before and after it.

    A scan that finds something counts in any case: a busy machine hides races and makes none.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if not threads_overlap():
            time.sleep(0.05)
            continue
        report = run()
        if report.findings or threads_overlap():
            return report
    return pytest.fail(f"no two threads overlapped in {limit:g} s: this machine is too busy to show a race")


# ---------------------------------------------------------------------------------------------------- published models


class PairGraph(nn.Module):
    """Edges between all atoms nearer than the cutoff, and their lengths."""

    def forward(self, pos: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            near = (torch.cdist(pos, pos) < CUTOFF) & (batch[:, None] == batch[None, :])
            near.fill_diagonal_(False)
            row, col = near.nonzero(as_tuple=True)
        edge = pos[row] - pos[col]
        return torch.stack([row, col]), edge.norm(dim=-1)


def schnet(atoms: int = 500) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """SchNet of PyTorch Geometric with random weights, and atoms at the density of a metal."""
    geometric = optional("torch_geometric.nn")
    torch.manual_seed(0)
    model = geometric.SchNet(
        hidden_channels=16,
        num_filters=16,
        num_interactions=2,
        num_gaussians=16,
        cutoff=CUTOFF,
        interaction_graph=PairGraph(),
    )
    side = (atoms / 0.085) ** (1 / 3)  # 0.085 atoms per cubic Angstrom: copper
    pos = (torch.rand(atoms, 3) * side).requires_grad_()
    return model, (torch.full((atoms,), 29), pos, torch.zeros(atoms, dtype=torch.long))


def _tokens(batch: int = 4, length: int = 128) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (batch, length))


def gpt2() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    transformers = optional("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=128, n_embd=WIDTH, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    tokens = _tokens()
    return transformers.GPT2LMHeadModel(config).train(), {"input_ids": tokens, "labels": tokens}


def bert() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    transformers = optional("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256
    )
    tokens = _tokens()
    return transformers.BertForMaskedLM(config).train(), {"input_ids": tokens, "labels": tokens}


def mixtral() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    transformers = optional("transformers")
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        attention_dropout=0.1,
        router_jitter_noise=0.01,
        output_router_logits=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    tokens = _tokens()
    return transformers.MixtralForCausalLM(config).train(), {"input_ids": tokens, "labels": tokens}


# --------------------------------------------------------------------------------------------------------- small models


class ConvNet(nn.Module):
    """Convolutions in channels_last, BatchNorm with running statistics, in-place ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


def cnn() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = ConvNet().to(memory_format=torch.channels_last).train()
    return model, torch.randn(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(32, 64, num_layers=2, dropout=0.1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


def recurrent(kind: type[nn.RNNBase]) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return Recurrent(kind).train(), torch.randn(8, 12, 32)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(0.1)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.down(F.gelu(self.up(self.norm(x)))))


class RacyBlock(Block):
    """Reads the rows of a small table by many indices: its gradient adds many terms to each row."""

    def __init__(self, rows: int = 8) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(rows, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index = torch.arange(len(x)) % len(self.table)
        return super().forward(x) + self.table[index]  # racy read


class Checkpointed(nn.Module):
    """Blocks that are computed again in the backward."""

    def __init__(self, use_reentrant: bool, kind: type[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(kind() for _ in range(2))
        self.use_reentrant = use_reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.use_reentrant)
        return x


def checkpointed(use_reentrant: bool, kind: type[Block] = Block) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return Checkpointed(use_reentrant, kind).train(), torch.randn(2048, WIDTH, requires_grad=True)


class Filled(nn.Module):
    """Gets memory from torch.empty and writes all of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(2, *x.shape)
        out[0] = x.sin()
        out[1].copy_(x * 2.0)
        return out.sum(0)


class Unfilled(nn.Module):
    """Gets memory from torch.empty and reads half of it unwritten."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(2, *x.shape)  # half of it is never written
        out[0] = x.sin()
        return out.sum(0)


class Discrete(nn.Module):
    """Integer and bool outputs, and nothing to differentiate."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        return x.argmax(1), x > 0, int((x > 1).sum())


class WithNaN(nn.Module):
    """NaN, infinities and both zeros in the activations and in the gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.linear(x)
        hidden = torch.where(hidden > 1.0, hidden / 0.0, hidden)
        return (hidden - hidden * 0.0).log() * -0.0 + hidden


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 3.0 * x * x * grad


class RacyGather(torch.autograd.Function):
    """Reads rows; its own backward adds to them by hand."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(table)
        return table.index_select(0, index)  # custom gather

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        out = grad.new_zeros(ctx.rows, grad.shape[1])
        return out.index_put((index,), grad, accumulate=True), None  # racy add by hand


class Custom(nn.Module):
    """A custom autograd.Function: a clean one, or one whose backward races."""

    def __init__(self, racy: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.racy = racy

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = Cube.apply(self.linear(x))
        if self.racy:
            x = RacyGather.apply(x, torch.arange(8192) % len(x))
        return x


class FewDuplicates(nn.Module):
    """index_add and scatter_add in which no place gets more than two terms: a + b = b + a."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[0]
        index = torch.arange(rows) % (rows // 2)
        added = torch.zeros(rows // 2, x.shape[1]).index_add(0, index, x)
        scattered = torch.zeros(rows // 2, x.shape[1]).scatter_add(0, index[:, None].expand_as(x), x)
        return added + 2.0 * scattered
