"""FLOPs against torch's own counter, and seconds by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch.utils.flop_counter import FlopCounterMode

from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.compute import (
    backward_flops,
    forward_flops,
    link_bytes,
    seconds,
    step_flops,
    update_bytes,
)
from lit_unlearn.planning.devices import Device, find_device
from lit_unlearn.planning.layout import teacher_layout
from lit_unlearn.planning.run import Teaching
from tests.unit.planning.given import ADAPTED, CONFIG, PARTLY, PLAIN, real, run
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
    layout = run(source).student
    blocks = layout.blocks - layout.lowest - (source is PARTLY)  # there it begins at the MLP
    attention = 4 * READ.rows * READ.length**2 * 64 * blocks
    assert forward_flops(layout, whole) == forward
    planned = backward_flops(layout, whole) - 0.5 * attention
    assert planned == counter.get_total_flops() - forward


def test_a_cached_teacher_costs_its_head() -> None:
    layout = teacher_layout(CONFIG, 4)
    steps = [{"forget": [ASKING]}]
    whole = step_flops(run(teaching=Teaching(layout)), steps)["forget"]
    head = step_flops(run(teaching=Teaching(layout, cached=True)), steps)["forget"]
    assert whole.teacher == whole.forward
    assert head.teacher == 2 * 20 * 64 * 512
    assert head.total == whole.total - whole.teacher + head.teacher


def test_recomputing_scoring_and_repeating() -> None:
    scoring = replace(WORK, reads=(replace(READ, gradient=False), READ), repeats=2)
    found = step_flops(run(checkpointing=True), [{"forget": [scoring]}, {"forget": []}])["forget"]
    once = step_flops(run(), [{"forget": [WORK]}])["forget"]
    assert found.scoring == found.forward == once.forward  # twice in one of two steps
    assert 0 < found.recomputing < found.forward


def test_seconds_by_hand() -> None:
    """One TFLOP/s at half of it, 1 GB/s of memory, 1 GB/s of link."""
    device = Device(None, 2.0, 1.0, 1.0, 1.0, "made up", utilisation=0.5)
    steps = [{"forget": [WORK]}]
    flops = step_flops(run(), steps)["forget"].total
    assert seconds(run(), steps, device).matrices == pytest.approx(flops / 0.5e12)
    assert seconds(run(), steps, device, utilisation=1.0).matrices == pytest.approx(flops / 1e12)
    half = run(mixed=True, compute_bytes=2)
    assert seconds(half, steps, device).matrices == pytest.approx(flops / 1e12)
    # AdamW: weight read and written, gradient read, two states read and written; the gradient is
    # written, checked and divided by the number of terms
    assert update_bytes(run(), 1) == run().student.trained * (12 + 16 + 20)
    two = run(strategy="ddp", devices=2)
    assert link_bytes(two, steps) == 2 * 0.5 * 4 * two.student.trained
    shared = run(strategy="fsdp2", devices=2)
    assert link_bytes(shared, steps) == 0.5 * 3 * 4 * two.student.trained
    assert link_bytes(run(), steps) == 0


def test_unknown_device() -> None:
    with pytest.raises(InputError, match="did you mean h100"):
        find_device("H100")
