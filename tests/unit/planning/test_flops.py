"""FLOPs against torch's own counter, and rates of devices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.devices import Device, find_device
from lit_unlearn.planning.flops import backward_flops, forward_flops, step_flops
from lit_unlearn.teachers import FrozenTeacher
from tests.unit.planning.given import ADAPTED, CHECKPOINTED, PARTLY, PLAIN, real, scenario
from tests.unit.planning.test_memory import ASKING, READ, WORK, tokens


@pytest.mark.parametrize("source", [PLAIN, ADAPTED, PARTLY], ids=["all", "adapters", "some"])
def test_flops_are_those_that_torch_counts(source: ModelSource) -> None:
    """With eager attention, whose backward pass has twice the products of the forward pass; the
    fused one, which is planned for, computes the probabilities once more, which makes it 2.5.
    """
    whole = replace(READ, tokens=4 * 50, squares=4 * 50**2)  # eager attention takes no packed rows
    model = real(source, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        logits = answer_logits(model, tokens())
        forward = counter.get_total_flops()
        logits.sum().backward()
    layout = scenario(source).student
    blocks = layout.blocks - layout.lowest - (source is PARTLY)  # there it begins at the MLP
    attention = 4 * READ.rows * READ.length**2 * 64 * blocks
    planned = backward_flops(layout, whole) - 0.5 * attention
    other = 0 if torch.__version__ >= "2.13" else 2e-5  # torch 2.10 counts 800 operations more
    close = partial(pytest.approx, rel=other, abs=0)
    assert forward_flops(layout, whole) == close(forward)
    assert planned == close(counter.get_total_flops() - forward)


def test_a_cached_teacher_costs_its_head() -> None:
    steps = [{"forget": [ASKING]}]
    whole = step_flops(scenario(teacher=FrozenTeacher()), steps)["forget"]
    head = step_flops(scenario(teacher=FrozenTeacher(cache=True)), steps)["forget"]
    assert whole["teacher"] == whole["forward"]
    assert head == {**whole, "teacher": 2 * 20 * 64 * 512}


def test_recomputing_scoring_and_repeating() -> None:
    scoring = replace(WORK, passes=(replace(READ, gradient=False), READ), repeats=2)
    steps = [{"forget": [scoring]}, {"forget": []}]
    found = step_flops(scenario(CHECKPOINTED), steps)["forget"]
    once = step_flops(scenario(), [{"forget": [WORK]}])["forget"]
    assert found["scoring"] == found["forward"] == once["forward"]  # twice in one of two steps
    assert 0 < found["recomputing"] < found["forward"]


def test_rates() -> None:
    """A fifth to a half of 2 TFLOP/s in bfloat16 and 1 in float32, or the given share."""
    device = Device(80, 2.0, 1.0, "made up")
    assert device.rates(2) == (0.4, 1.0)
    assert device.rates(4) == (0.2, 0.5)
    assert device.rates(4, utilisation=0.7) == (0.7, 0.7)
    with pytest.raises(InputError, match="did you mean h100"):
        find_device("H100")
