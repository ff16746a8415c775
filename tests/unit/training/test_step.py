"""One objective's gradient: at the weights, and at moved weights for sharpness-aware ones."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.accumulator import Accumulator
from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.objectives import (
    NPO,
    RMU,
    CrossEntropy,
    HiddenRetain,
    LatentAdversarial,
    Objective,
    SharpnessAware,
)
from lit_unlearn.objectives.objective import Reader, Terms
from lit_unlearn.training.step import Figures, Models, ObjectiveStep, accumulate
from lit_unlearn.types import TokenBatch
from tests.processes import FORKED, in_processes
from tests.unit.objectives.given import SINGLE, batch_of

WHOLE = [batch_of(SINGLE)]
MICRO = [batch_of([row]) for row in SINGLE]


class Bowl(Objective):
    """``|w|^2 / 2`` for each row, whatever the rows."""

    def __init__(self, at: nn.Parameter) -> None:
        super().__init__()
        self.at = at

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        loss = 0.5 * self.at.square().sum()
        return Terms(loss.expand(len(batch)), torch.arange(len(batch)))


class Found(NamedTuple):
    gradient: Gradient
    figures: Figures


def read(one: ObjectiveStep, models: Models, parameters: list[Any]) -> Found:
    """The gradient by itself."""
    accumulator = Accumulator(parameters, torch.ones(1), {}, "keep")
    figures = accumulate(one, models, accumulator)
    return Found(accumulator.kept[0], figures)


def models_of(model: PreTrainedModel) -> Models:
    return Models(ModelReader(model), ModelReader(copy.deepcopy(model)))


def of(objective: Objective, model: PreTrainedModel, batches: list[TokenBatch]) -> Found:
    one = ObjectiveStep("a", objective, batches)
    return read(one, models_of(model), list(model.parameters()))


def flat(gradient: Gradient) -> Tensor:
    return torch.cat([g.flatten() for g in gradient if g is not None])


def test_worked_value(tiny_model: PreTrainedModel) -> None:
    """|w|^2 / 2 at (3, 4): gradient (3, 4), loss 12.5. Radius 5 moves to (6, 8): (6, 8) and 50."""
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    models = Models(ModelReader(tiny_model), None)
    plain = read(ObjectiveStep("a", Bowl(weight), MICRO), models, [weight])
    assert flat(plain.gradient).tolist() == [3, 4]
    assert plain.figures == Figures(2, 12.5)
    sharp = SharpnessAware(Bowl(weight), radius=5.0)
    found = read(ObjectiveStep("a", sharp, MICRO), models, [weight])
    assert flat(found.gradient).tolist() == pytest.approx([6, 8])
    assert found.figures.loss == pytest.approx(50)
    assert found.figures.statistics == {"unmoved": pytest.approx(12.5)}
    assert weight.tolist() == [3, 4]
    assert weight.grad is None


@pytest.mark.parametrize("objective", [RMU(depth=0.5), HiddenRetain(depths=[0.5])])
def test_loss_below_all_that_is_trained(objective: Objective, tiny_model: PreTrainedModel) -> None:
    """Block 1 of 2 is read, block 2 alone is trained."""
    for name, parameter in tiny_model.named_parameters():
        parameter.requires_grad_("layers.1." in name)
    with pytest.raises(InputError, match=r"Objective 'a'.*`depth`.*`model.student.trainable`"):
        of(objective, tiny_model, WHOLE)


@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_below_all_adapters(checkpointing: bool) -> None:
    """As above with adapters, also where activations are recomputed."""
    source = ModelSource(
        TINY_NAME,
        lora=LoRA(rank=2),
        trainable=["layers[.]1[.]"],
        activation_checkpointing=checkpointing,
    )
    student = load_student(source)
    with pytest.raises(InputError, match=r"Objective 'a'.*`depth`"):
        of(RMU(depth=0.5), student, WHOLE)
    found = of(RMU(depth=1.0), student, WHOLE)
    assert flat(found.gradient).norm() > 0


@pytest.mark.parametrize("inner", [CrossEntropy, NPO], ids=["cross_entropy", "npo"])
def test_gradient_is_that_of_a_model_moved_by_hand(
    inner: type[Objective], tiny_model: PreTrainedModel
) -> None:
    """A copy of the model, moved by radius g / |g| with autograd's own g, without our step."""
    start = [p.detach().clone() for p in tiny_model.parameters()]
    teacher, moved = ModelReader(copy.deepcopy(tiny_model)), copy.deepcopy(tiny_model)

    def by_hand(model: PreTrainedModel) -> list[Tensor]:
        loss = inner()(WHOLE[0], ModelReader(model), teacher).values.mean()
        return list(torch.autograd.grad(loss, list(model.parameters())))

    gradient = by_hand(moved)
    length = torch.cat([g.flatten() for g in gradient]).double().norm()
    with torch.no_grad():
        for parameter, along in zip(moved.parameters(), gradient, strict=True):
            parameter += 0.3 * along / length
    expected = by_hand(moved)
    found = of(SharpnessAware(inner(), radius=0.3), tiny_model, WHOLE)
    assert_close(flat(found.gradient), flat(list(expected)), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(flat(list(expected)), flat(list(gradient)), rtol=1e-2, atol=1e-4)
    for parameter, before in zip(tiny_model.parameters(), start, strict=True):
        assert torch.equal(parameter, before)


def test_moved_along_the_gradient_of_all_micro_batches(tiny_model: PreTrainedModel) -> None:
    """Rows one by one give what they give together; moving for each by itself would not."""
    objective = SharpnessAware(NPO(), radius=0.3)
    whole, micro = of(objective, tiny_model, WHOLE), of(objective, tiny_model, MICRO)
    one, other = micro.figures, whole.figures
    assert one.loss == pytest.approx(other.loss, rel=1e-4)
    assert one.statistics["unmoved"] == pytest.approx(other.statistics["unmoved"], rel=1e-4)
    assert_close(flat(micro.gradient), flat(whole.gradient), rtol=1e-3, atol=1e-5)
    apart = torch.stack([flat(of(objective, tiny_model, [b]).gradient) for b in MICRO]).mean(0)
    assert not torch.allclose(apart, flat(whole.gradient), rtol=1e-3, atol=1e-5)


def test_limit_and_loss(tiny_model: PreTrainedModel) -> None:
    """A vanishing radius gives the inner gradient; a small one raises the loss by radius |g|."""
    plain = of(CrossEntropy(), tiny_model, WHOLE)
    tiny = of(SharpnessAware(CrossEntropy(), radius=1e-9), tiny_model, WHOLE)
    assert_close(flat(tiny.gradient), flat(plain.gradient), rtol=1e-4, atol=1e-6)
    moved = of(SharpnessAware(CrossEntropy(), radius=1e-2), tiny_model, WHOLE).figures
    rise = 1e-2 * float(flat(plain.gradient).norm())
    assert moved.loss - moved.statistics["unmoved"] == pytest.approx(rise, rel=0.05)


def test_inner_statistics_stay(tiny_model: PreTrainedModel) -> None:
    objective = SharpnessAware(LatentAdversarial(NPO(), depth=0.5, steps=1))
    assert set(of(objective, tiny_model, MICRO).figures.statistics) >= {"unmoved", "clean"}


def summing(parameters: list[Any], start: float, factor: float) -> Accumulator:
    """An accumulator in which every element of the sum has a value already."""
    accumulator = Accumulator(parameters, torch.tensor([factor]).double(), {}, "sum")
    accumulator.total = [torch.full_like(p, start) for p in parameters]
    return accumulator


def test_backward_adds_to_a_sum(tiny_model: PreTrainedModel) -> None:
    """Sum + 0.3 x the gradient of the mean, in the sum's own memory; loss and count unchanged."""
    apart = of(CrossEntropy(), tiny_model, WHOLE)
    parameters = list(tiny_model.parameters())
    accumulator = summing(parameters, 0.01, 0.3)
    memory = [part.data_ptr() for part in accumulator.total if part is not None]
    seen: list[int] = []

    def backward(loss: Tensor) -> None:
        seen.extend(p.grad.data_ptr() for p in parameters if p.grad is not None)
        loss.backward()

    models = replace(models_of(tiny_model), backward=backward)
    figures = accumulate(ObjectiveStep("a", CrossEntropy(), WHOLE), models, accumulator)
    assert figures == apart.figures
    assert_close(flat(accumulator.total), 0.01 + 0.3 * flat(apart.gradient), rtol=1e-5, atol=1e-7)
    assert seen == memory
    assert [part.data_ptr() for part in accumulator.total if part is not None] == memory
    assert all(p.grad is None for p in parameters)


@pytest.mark.parametrize(
    ("objective", "batches"),
    [(CrossEntropy(), MICRO), (SharpnessAware(CrossEntropy(), radius=0.3), WHOLE), (NPO(), [])],
    ids=["micro batches", "moved weights", "no rows"],
)
def test_what_must_stay_apart(
    objective: Objective, batches: list[TokenBatch], tiny_model: PreTrainedModel
) -> None:
    """The factor of the mean, or the place of the weights, is known after the backward pass."""
    apart = of(objective, tiny_model, batches)
    parameters = list(tiny_model.parameters())
    accumulator = summing(parameters, 1.0, 0.3)
    before = [part for part in accumulator.total if part is not None]

    def backward(loss: Tensor) -> None:
        loss.backward()
        assert not any(p.grad is part for p, part in zip(parameters, before, strict=True))

    models = replace(models_of(tiny_model), backward=backward)
    accumulate(ObjectiveStep("a", objective, batches), models, accumulator)
    expected = 1 + 0.3 * flat(apart.gradient) if batches else torch.ones(1)
    assert_close(flat(accumulator.total), expected.expand_as(flat(accumulator.total)))


def test_without_rows(tiny_model: PreTrainedModel) -> None:
    found = of(SharpnessAware(NPO()), tiny_model, [])
    assert found.figures.count == 0
    assert found.figures.loss != found.figures.loss
    assert all(part is None for part in found.gradient)


def test_weights_are_back_where_the_moved_loss_is_not_finite(tiny_model: PreTrainedModel) -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    sharp = SharpnessAware(Bowl(weight), radius=1e30)  # its square is beyond float32
    with pytest.raises(InputError, match=r"'a' is not finite at step 7.*rows short"):
        read(ObjectiveStep("a", sharp, MICRO, 7), Models(ModelReader(tiny_model), None), [weight])
    assert weight.tolist() == [3, 4]


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"`SharpnessAware.radius` .* above 0. Found 0"):
        SharpnessAware(NPO(), radius=0)
    with pytest.raises(InputError, match="Found a SharpnessAware, which moves them too"):
        SharpnessAware(SharpnessAware(NPO()))


def test_the_teacher_is_foreseen_for_the_inner_objective() -> None:
    assert SharpnessAware(NPO()).teacher_inputs(WHOLE[0]) == NPO().teacher_inputs(WHOLE[0])
    assert SharpnessAware(NPO()).needs_teacher
    assert SharpnessAware(CrossEntropy()).teacher_inputs(WHOLE[0]) == []


# --------------------------------------------------------------------------------------- sharded


def sharded_equals_whole() -> None:
    """FSDP2 on the same rows in each process: the gradient of the whole model, and exact return."""
    objective = SharpnessAware(NPO(), radius=0.3)
    whole = make_tiny_model()
    expected = of(objective, whole, MICRO)
    model, teacher = make_tiny_model(), ModelReader(make_tiny_model())
    mesh = init_device_mesh("cpu", (2,))
    for block in model.model.layers:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parameters = list(model.parameters())
    start = [p.to_local().clone() for p in parameters if isinstance(p, DTensor)]
    models = Models(ModelReader(model), teacher)
    found = read(ObjectiveStep("a", objective, MICRO), models, parameters)
    assert found.figures.loss == pytest.approx(expected.figures.loss, rel=1e-4)
    for part, other in zip(found.gradient, expected.gradient, strict=True):
        assert isinstance(part, DTensor)
        assert_close(part.full_tensor(), other, rtol=1e-3, atol=1e-4)
    for parameter, before in zip(parameters, start, strict=True):
        assert isinstance(parameter, DTensor)
        assert torch.equal(parameter.to_local(), before)


@FORKED
def test_sharded_equals_whole(tmp_path: Path) -> None:
    in_processes(2, sharded_equals_whole, tmp_path)


def one_adds_to_a_sum() -> None:
    """One process under FSDP2 adds to a sum too: two objectives, as by the whole model apart."""
    whole, model = make_tiny_model(), make_tiny_model()
    first, second = (of(objective, whole, WHOLE) for objective in (CrossEntropy(), NPO()))
    mesh = init_device_mesh("cpu", (1,))
    for block in model.model.layers:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parameters, teacher = list(model.parameters()), ModelReader(make_tiny_model())
    preferences = torch.tensor([0.5, 2.0], dtype=torch.float64)
    accumulator = Accumulator(parameters, preferences, {}, "sum")
    models = Models(ModelReader(model), teacher)
    for objective in (CrossEntropy(), NPO()):
        accumulate(ObjectiveStep("a", objective, WHOLE), models, accumulator)
    total = accumulator.total
    for part, one, other in zip(total, first.gradient, second.gradient, strict=True):
        assert isinstance(part, DTensor)
        assert one is not None
        assert other is not None
        assert_close(part.full_tensor(), 0.5 * one + 2 * other, rtol=1e-4, atol=1e-6)


@FORKED
def test_one_sharded_process_adds_to_a_sum(tmp_path: Path) -> None:
    in_processes(1, one_adds_to_a_sum, tmp_path)
