"""Losses, gradients and weights that are no numbers, and losses that run away."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_unlearn.callbacks import LossBounds
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.finite import Guard, NotFiniteError, check_weights, gradient_trouble
from lit_unlearn.objectives import CrossEntropy, GradientAscent
from lit_unlearn.training.setup.checks import check_trainer
from tests.small_runs import data_module, fit, module, trainer, weights


class Harmed(CrossEntropy):
    """Its loss, or its gradient alone, is no number at chosen readings."""

    def __init__(self, where: str, at: tuple[int, ...]) -> None:
        super().__init__()
        self.where, self.at, self.readings = where, at, 0

    def __call__(self, *arguments: Any) -> Any:
        terms = super().__call__(*arguments)
        self.readings += 1
        if self.readings - 1 not in self.at:
            return terms
        values: Tensor = terms.values
        if self.where == "loss":
            return replace(terms, values=values + math.inf)
        # 0 * sqrt'(0) is NaN in the backward pass alone
        return replace(terms, values=values + (values * 0).sqrt())


def harmed(where: str, at: tuple[int, ...], **options: Any) -> Any:
    model = module(diagnostics_every=0, **options)
    model.objectives["retain"] = Harmed(where, at)
    return model


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_objective_the_step_and_the_rows_are_named(tmp_path: Path, where: str) -> None:
    with pytest.raises(
        InputError, match=rf"The {where} of objective 'retain' is .* at step 2, .*general-train"
    ):
        fit(tmp_path, harmed(where, (2,)))


def test_steps_are_left_out_up_to_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A step that is left out moves nothing; a checkpoint keeps the count."""
    one = harmed("gradient", ())
    fit(tmp_path, one, steps=1)
    two = harmed("gradient", (1, 2), guard=Guard(skip=2))
    fit(tmp_path, two, steps=3)
    assert "Step skipped (1 of at most 2): The gradient of objective 'retain'" in caplog.text
    assert two.global_step == 3
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    saved: dict[str, Any] = {}
    two.on_save_checkpoint(saved)
    resumed = harmed("loss", (0,), guard=Guard(skip=2))
    resumed.on_load_checkpoint(saved)
    with pytest.raises(NotFiniteError, match="at step 0"):
        fit(tmp_path, resumed)


def test_slices_and_missing_parts_of_a_gradient() -> None:
    assert not gradient_trouble("a", [None, torch.ones(2), torch.empty(0)], ["r"], 0)
    assert not gradient_trouble("a", [torch.full((2,), 3e37)], ["r"], 0)
    assert gradient_trouble("a", [torch.ones(2), torch.tensor([1.0, math.nan])], ["r"], 0)
    assert gradient_trouble("a", [torch.tensor([-math.inf]).half()], ["r"], 0)


def test_weights_must_be_numbers() -> None:
    check_weights(torch.ones(2), 0)
    with pytest.raises(NotFiniteError, match=r"finite weights. Found \[nan, 1.0\] at step 3"):
        check_weights(torch.tensor([math.nan, 1]), 3)


@pytest.mark.parametrize(
    ("precision", "dtype", "name"),
    [("16-true", "float32", "trainer.precision"), ("32-true", "float16", "model.student.dtype")],
)
def test_float16_cannot_be_trained(precision: str, dtype: str, name: str) -> None:
    check_trainer("32-true", "bfloat16")
    with pytest.raises(InputError, match=f"`{name}` should not train in float16"):
        check_trainer(precision, dtype)


# --------------------------------------------------------------------------------------- run away


class Stopping:
    """As much of a trainer as the callback asks for."""

    def __init__(self) -> None:
        self.global_step, self.max_steps, self.should_stop = 0, 9, False


def stopped_after(bounds: LossBounds, losses: list[float]) -> int | None:
    trainer: Any = Stopping()
    module: Any = None
    for step, loss in enumerate(losses, start=1):
        trainer.global_step = step
        bounds.on_train_batch_end(trainer, module, {"losses": {"forget": loss}}, None, 0)
        if trainer.should_stop:
            return step
    return None


def test_a_loss_outside_of_its_bounds_ends_training(caplog: pytest.LogCaptureFixture) -> None:
    losses = [-1.0, -6, -4, -6, -7, -8]
    assert stopped_after(LossBounds({"forget": -5}), losses) == 2
    assert "the loss of objective forget is -6, outside of its bounds (-5 to None)" in caplog.text
    patient = LossBounds({"forget": -5}, patience=3)
    assert stopped_after(patient, losses[:-1]) is None
    later = LossBounds({"forget": -5}, patience=3)
    later.load_state_dict(patient.state_dict())
    assert stopped_after(later, losses[-1:]) == 1
    assert stopped_after(LossBounds(highest={"forget": 5}), [4.0, 5, 5.1]) == 3
    with pytest.raises(InputError, match="should bound at least one objective"):
        LossBounds()


def test_ascent_is_bounded(tmp_path: Path) -> None:
    """What follows training is done: the trainer ends as after its last step."""
    model = module()
    model.objectives["forget"] = GradientAscent(weight=5.0)
    run = trainer(tmp_path, LossBounds({"forget": -8}), max_steps=50)
    run.fit(model, datamodule=data_module())
    assert 1 < run.global_step < 50
    assert run.state.finished
