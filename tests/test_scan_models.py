"""What a scan says about real models: the flaw that is there is found at its line, and nothing else is accused.

A race needs two threads that really overlap. On a machine whose cores are busy elsewhere they take turns, so tests that
must see a race hold a control beside the scan (`models.racing`).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import models
import pytest
import torch
from torch import nn

import detprobe


def scan(model: Any, inputs: Any, **options: Any) -> detprobe.Report:
    return detprobe.scan(model, inputs, **options)


def loss_of(output: Any) -> torch.Tensor:
    return output.loss


# ------------------------------------------------------------------------------------------------------ SchNet's forces


def assert_only_the_forces_are_accused(report: detprobe.Report) -> None:
    (finding,) = report.findings
    assert (finding.op, finding.phase, finding.verdict, finding.axis) == (
        "aten::index_put",
        "backward",
        "nondeterministic",
        "rerun",
    )
    assert models.ends_at(finding.location, "edge = pos[row] - pos[col]"), finding.location
    assert finding.module == "interaction_graph"
    assert finding.fix_result == "identical"
    assert finding.fix


def test_the_forces_of_schnet_are_found_at_their_line_with_a_fix_that_holds() -> None:
    model, inputs = models.schnet()
    report = models.racing(lambda: scan(model, inputs, loss=torch.sum))
    assert_only_the_forces_are_accused(report)
    (finding,) = report.findings
    assert not report.ok
    assert finding.replays == 8
    assert 2 <= finding.distinct <= 8
    assert 0.0 < finding.changed <= 1.0
    assert finding.max_ulp is not None
    assert finding.max_ulp > 0
    assert finding.max_abs is not None
    assert finding.max_abs > 0.0
    assert "order" in finding.cause
    tried = {trial.fix: trial for trial in finding.trials}
    assert tried["torch.use_deterministic_algorithms(True)"].result == "identical"
    assert tried["detprobe.deterministic()"].result == "identical"
    costs = [tried[fix].cost for fix in ("torch.use_deterministic_algorithms(True)", "detprobe.deterministic()")]
    assert finding.fix_cost == min(cost for cost in costs if cost is not None)
    assert all(trial.cost is not None and trial.cost > 0 for trial in finding.trials if trial.result != "refuses")
    accused = [row for row in report.ops if row.verdict not in ("stable", "random")]
    assert [(row.op, row.location) for row in accused] == [(finding.op, finding.location)]


def test_the_forces_of_schnet_repeat_in_the_context() -> None:
    model, inputs = models.schnet()
    with detprobe.deterministic() as context:
        report = scan(model, inputs, loss=torch.sum)
    assert report.findings == ()
    assert context.replaced["aten::index_put"] > 0
    assert context.uncovered == {}


def test_the_energies_of_schnet_repeat() -> None:
    model, inputs = models.schnet()
    assert scan(model, inputs, backward=False).findings == ()


@pytest.mark.slow
def test_the_forces_of_schnet_are_found_in_twenty_scans_of_twenty_and_nothing_else_is() -> None:
    model, inputs = models.schnet()
    for seed in range(20):
        assert_only_the_forces_are_accused(models.racing(lambda seed=seed: scan(model, inputs, seed=seed)))


# ------------------------------------------------------------------------------------------------------ language models

# Dropout is drawn by bernoulli_ on the CPU: one call per dropout layer and step. GPT-2: embeddings, then attention,
# its output and the MLP of 2 layers; BERT the same; Mixtral: attention of 2 layers, and the router's jitter (uniform_).
LANGUAGE = {
    "gpt2": (models.gpt2, {"aten::bernoulli_": 7}),
    "bert": (models.bert, {"aten::bernoulli_": 7}),
    "mixtral": (models.mixtral, {"aten::bernoulli_": 2, "aten::uniform_": 2}),
}


@pytest.mark.parametrize("name", LANGUAGE)
@pytest.mark.parametrize("loss", [loss_of, None], ids=["loss", "cotangent"])
def test_language_models_in_training_are_clean_and_their_dropout_is_random(name: str, loss: Any) -> None:
    build, draws = LANGUAGE[name]
    model, inputs = build()
    assert model.training
    report = scan(model, inputs, loss=loss)
    assert report.findings == ()
    assert report.ok
    assert report.notes == ()
    random = Counter[str]()
    for row in report.ops:
        if row.verdict == "random":
            random[row.op] += row.calls
    assert dict(random) == draws
    assert {row.verdict for row in report.ops} == {"stable", "random"}
    assert {row.phase for row in report.ops} == {"forward", "backward"}


@pytest.mark.slow
def test_twenty_scans_of_language_models_accuse_nobody() -> None:
    scans = 0
    for build, _ in LANGUAGE.values():
        model, inputs = build()
        for seed in range(7):
            assert scan(model, inputs, loss=loss_of, seed=seed).findings == ()
            scans += 1
    assert scans >= 20


@pytest.mark.parametrize("name", LANGUAGE)
def test_dropout_is_off_in_eval_and_no_row_is_random(name: str) -> None:
    model, inputs = LANGUAGE[name][0]()
    report = scan(model.eval(), inputs, backward=False)
    assert {row.verdict for row in report.ops} == {"stable"}


# --------------------------------------------------------------------------------- convolutions, recurrent, optimizer

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], str]] = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False), "aten::add_"),
    "sgd foreach": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True), "aten::_foreach_add_"),
    "sgd fused": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True), "aten::_fused_sgd_"),
    "adam": (lambda p: torch.optim.Adam(p, lr=1e-3, foreach=False), "aten::addcdiv_"),
    "adam foreach": (lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True), "aten::_foreach_addcdiv_"),
    "adam fused": (lambda p: torch.optim.Adam(p, lr=1e-3, fused=True), "aten::_fused_adam_"),
    "adamw amsgrad": (lambda p: torch.optim.AdamW(p, lr=1e-3, amsgrad=True, foreach=False), "aten::addcdiv_"),
}


def test_a_cnn_with_batch_norm_in_place_relu_and_channels_last_is_clean() -> None:
    model, images = models.cnn()
    report = scan(model, images)
    assert report.findings == ()
    assert models.verdicts(report, "aten::native_batch_norm") == {"stable"}
    assert models.verdicts(report, "aten::relu_") == {"stable"}
    assert models.verdicts(report, "aten::convolution_backward") == {"stable"}


@pytest.mark.parametrize("warm", [False, True], ids=["first step", "later step"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_step_is_scanned_and_clean(name: str, warm: bool) -> None:
    build, op = OPTIMIZERS[name]
    torch.manual_seed(0)
    model, x = models.Block(), torch.randn(256, models.WIDTH)
    optimizer = build(model.parameters())
    if warm:  # the state exists then, and is written in place
        model(x).square().mean().backward()
        optimizer.step()
    report = scan(model, x, optimizer=optimizer)
    assert report.findings == ()
    rows = [row for row in report.ops if row.op == op and row.phase == "optimizer"]
    assert rows, f"{op} was not seen in the optimizer's step"
    assert {(row.verdict, row.replays) for row in rows} == {("stable", 8)}


def test_twenty_steps_of_a_cnn_with_adam_are_clean() -> None:
    model, images = models.cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for seed in range(20):
        assert scan(model, images[:2], optimizer=optimizer, replays=3, seed=seed).findings == ()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_with_dropout_are_clean(kind: type[nn.RNNBase]) -> None:
    model, x = models.recurrent(kind)
    report = scan(model, x)
    assert report.findings == ()
    assert models.verdicts(report, "aten::bernoulli_") == {"random"}


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointed_blocks_are_clean(use_reentrant: bool) -> None:
    report = scan(*models.checkpointed(use_reentrant))
    assert report.findings == ()
    drawn = [row for row in report.ops if row.verdict == "random"]
    assert {row.phase for row in drawn} == {"forward", "backward"}, "the recomputed dropout is random too"


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_race_in_checkpointed_blocks_is_found_at_its_line(use_reentrant: bool) -> None:
    model, x = models.checkpointed(use_reentrant, models.RacyBlock)
    report = models.racing(lambda: scan(model, x))
    assert models.named(report) == {("aten::index_put", "backward", "nondeterministic")}
    for finding in report.findings:
        assert models.ends_at(finding.location, "# racy read"), finding.location
    assert {f.module for f in report.findings} <= {"blocks.0", "blocks.1"}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_ops_that_a_checkpoint_computes_again_have_the_lines_of_the_forward(use_reentrant: bool) -> None:
    report = scan(*models.checkpointed(use_reentrant))
    for op in ("aten::native_layer_norm", "aten::gelu"):
        rows = [row for row in report.ops if row.op == op]
        assert {row.phase for row in rows} == {"forward", "backward"}
        for row in rows:
            assert models.ends_at(row.location, "F.gelu(self.up(self.norm(x)))"), row


# ----------------------------------------------------------------------------------- memory, integers, NaN, Functions


def rows_of_data(requires_grad: bool = True) -> torch.Tensor:
    return torch.randn(512, models.WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_(requires_grad)


def test_memory_from_empty_that_is_filled_is_clean() -> None:
    assert scan(models.Filled(), rows_of_data()).findings == ()


def test_memory_from_empty_that_is_read_unwritten_is_found_at_the_line_that_made_it() -> None:
    (finding,) = scan(models.Unfilled(), rows_of_data()).findings
    assert (finding.op, finding.phase, finding.verdict) == ("aten::sum", "forward", "uninitialized")
    assert models.ends_at(finding.location, "# half of it is never written"), finding.location


def test_integer_and_bool_outputs_are_clean() -> None:
    report = scan(models.Discrete(), rows_of_data(False), backward=False)
    assert report.findings == ()
    assert models.verdicts(report, "aten::argmax") == {"stable"}
    assert models.verdicts(report, "aten::gt") == {"stable"}


def test_nan_infinities_and_negative_zeros_are_equal_to_themselves() -> None:
    torch.manual_seed(0)
    model, x = models.WithNaN(), 4.0 * rows_of_data(False)
    output = model(x)
    assert bool(output.isnan().any())
    assert bool(output.isfinite().any())
    assert scan(model, x).findings == ()


def test_a_custom_function_is_clean() -> None:
    torch.manual_seed(0)
    report = scan(models.Custom(racy=False), rows_of_data())
    assert report.findings == ()
    assert {row.verdict for row in report.ops} == {"stable"}


def test_a_race_in_a_custom_backward_is_found_with_the_forward_line_and_its_own() -> None:
    torch.manual_seed(0)
    model = models.Custom(racy=True)
    report = models.racing(lambda: scan(model, rows_of_data()))
    assert models.named(report) == {("aten::index_put", "backward", "nondeterministic")}
    (finding,) = report.findings
    assert models.ends_at(finding.location, "# custom gather"), finding.location
    assert models.ends_at(finding.call_site, "# racy add by hand"), finding.call_site


def test_sums_of_two_terms_are_not_accused_for_their_name() -> None:
    report = scan(models.FewDuplicates(), rows_of_data())
    assert report.findings == ()
    assert models.verdicts(report, "aten::index_add") == {"stable"}
    assert models.verdicts(report, "aten::scatter_add") == {"stable"}


# ------------------------------------------------------------------------------------------------ the step stays itself


@pytest.mark.parametrize("name", ["gpt2", "cnn", "lstm", "block"])
def test_the_scanned_step_gives_the_bits_of_a_plain_step(name: str) -> None:
    model, inputs = {
        "gpt2": models.gpt2,
        "cnn": models.cnn,
        "lstm": lambda: models.recurrent(nn.LSTM),
        "block": lambda: models.checkpointed(False),
    }[name]()
    arguments, keywords = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
    seen = io.BytesIO()  # not a container that a scan puts back

    def record(output: Any) -> torch.Tensor:
        value = output.logits if hasattr(output, "logits") else output
        loss = value.square().mean()
        seen.write(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return loss

    torch.manual_seed(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    record(model(*arguments, **keywords))
    plain = seen.getvalue()
    model.load_state_dict(before)
    seen.seek(0)
    seen.truncate()
    assert scan(model, inputs, loss=record, seed=3).ok
    scanned = seen.getvalue()
    assert len(scanned) >= len(plain) > 0
    assert scanned == plain * (len(scanned) // len(plain))
