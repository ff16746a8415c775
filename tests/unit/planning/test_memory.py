"""Bytes: worked values, and activations against what autograd really keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.activations import casts, kept_activations, logits_bytes
from lit_unlearn.planning.forward_passes import ForwardPass, MicroBatch
from lit_unlearn.planning.memory import moments, peak
from lit_unlearn.teachers import AdapterOffTeacher, EMATeacher, FrozenTeacher
from lit_unlearn.types import Tokens
from tests.unit.planning.given import ADAPTED, CHECKPOINTED, CONFIG, PARTLY, PLAIN, real, scenario

READ = ForwardPass(
    "student",
    rows=4,
    length=50,
    tokens=3 * 50 + 45,
    squares=3 * 50**2 + 45**2,
    predictions=20,
    gradient=True,
    queries=4 * 50,  # the four rows share a call of attention
    keys=4 * 50,
)
WORK = MicroBatch((READ,), logit_rows=60)
ASKING = MicroBatch(
    (replace(READ, model="teacher", gradient=False), READ), logit_rows=100, cache_positions=20
)


def tokens() -> Tokens:
    """As `READ` says: three rows of 50 tokens and one of 45, predictions at the last five."""
    ids = torch.randint(0, CONFIG.vocab_size, (READ.rows, READ.length))
    mask = torch.ones_like(ids)
    mask[0, -5:] = 0
    rows = torch.arange(READ.rows).repeat_interleave(5)
    columns = torch.arange(45, 50).repeat(READ.rows)
    return Tokens(ids, mask, rows, columns - 5 * (rows == 0))


def kept_by_autograd(model: nn.Module, mixed: bool) -> int:
    """Bytes of all tensors that a forward pass saves, weights left out, each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}
    held: list[Any] = []  # so that no storage takes the place of another

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed),
    ):
        answer_logits(model, tokens())
    return sum(found.values())


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bf16-mixed"])
@pytest.mark.parametrize(
    "source",
    [PLAIN, ADAPTED, PARTLY, CHECKPOINTED],
    ids=["all weights", "adapters", "some weights", "checkpointing"],
)
def test_activations_are_those_that_autograd_keeps(source: ModelSource, mixed: bool) -> None:
    planned = scenario(source, precision="bf16-mixed" if mixed else "32-true")
    head = 2 * CONFIG.vocab_size * CONFIG.hidden_size * mixed  # what is left outside of blocks
    cast = head if source.activation_checkpointing else casts(planned)
    expected = kept_activations(planned, READ) + cast
    found = kept_by_autograd(real(source), mixed)
    assert expected == pytest.approx(found, rel=0.03)


def test_logits_are_counted_at_answer_positions() -> None:
    """60 rows of 512 logits in float32; under bfloat16 one row of 2 bytes per prediction more."""
    assert logits_bytes(scenario(), WORK) == 60 * 512 * 4
    assert logits_bytes(scenario(precision="bf16-mixed"), WORK) == 60 * 512 * 4 + 20 * 512 * 2


def test_gradients_are_kept_or_added_up() -> None:
    """The update comes last: all three gradients beside it, or it alone; AdamW has two states."""
    size = 4 * scenario().student.trained
    steps = [{"forget": [WORK], "retain": [WORK], "neighbor": [WORK]}]
    for gradients, expected in (("added up", 1), ("kept", 4), ("exact diagnostics", 4)):
        last = list(moments(scenario(gradients=gradients), steps))[-1]
        assert last.what == "update"
        assert last.total == size + 2 * size + expected * size
    losses = [m for m in moments(scenario(gradients="kept"), steps) if m.what.startswith("loss")]
    assert [m.parts["gradients"] // size for m in losses] == [0, 1, 2]
    several = [{"forget": [WORK, WORK]}]
    losses = [m for m in moments(scenario(), several) if m.what.startswith("loss")]
    assert [m.parts["current gradient"] // size for m in losses] == [0, 1]
    sketched = peak(scenario(gradients="sketch"), steps)
    assert sketched.parts["sketches"] == 3 * 6 * 2**16 * 4  # embedding, 3 blocks, head, the rest


def test_a_cached_teacher_is_its_head() -> None:
    steps = [{"forget": [ASKING]}]
    whole = scenario(teacher=FrozenTeacher("bfloat16"))
    head = scenario(teacher=FrozenTeacher("bfloat16", cache=True))
    assert peak(whole, steps).parts["teacher"] == 2 * whole.student.parameters
    assert peak(head, steps).parts["teacher"] == 2 * 512 * 64
    assert any(m.what == "teacher for forget" for m in moments(whole, steps))
    assert not any(m.what == "teacher for forget" for m in moments(head, steps))
    assert peak(scenario(ADAPTED, teacher=AdapterOffTeacher()), steps).parts["teacher"] == 0
    moving = scenario(teacher=EMATeacher(), precision="bf16-true")
    assert peak(moving, steps).parts["teacher"] == 2 * whole.student.parameters


def test_shards_are_divided_and_replicas_are_not() -> None:
    steps = [{"forget": [WORK]}]
    one, four = scenario(), scenario(strategy="fsdp2", devices=4)
    alone, shared = list(moments(one, steps))[-1], list(moments(four, steps))[-1]
    for part in ("weights", "optimizer", "gradients"):
        assert shared.parts[part] == pytest.approx(alone.parts[part] / 4, abs=1)
    copied = list(moments(scenario(strategy="ddp", devices=4), steps))[-1]
    assert copied.total == alone.total
    layout = one.student
    loss = next(m for m in moments(four, steps) if m.what == "loss of forget")
    assert loss.parts["gathered"] == layout.outside_bytes[0] + 2 * layout.block_bytes[0]
