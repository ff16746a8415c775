"""Latent adversarial training: the ascent step, its bounds, and what it makes of an objective."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_unlearn import objectives as o
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.objectives.latent import ascend
from lit_unlearn.types import Tokens
from tests.unit.objectives.given import SINGLE, batch_of, row


def test_step_worked_values() -> None:
    """From 0 along (3, 4) by 1: (0.6, 0.8). By 10 into a ball of radius 2: (1.2, 1.6).

    No gradient: nothing moves.
    """
    zero, one = torch.zeros(1, 1, 2), torch.ones(1, 1, 1)
    along = torch.tensor([[[3.0, 4.0]]])
    assert ascend(zero, along, one, 2 * one).flatten().tolist() == pytest.approx([0.6, 0.8])
    assert ascend(zero, along, 10 * one, 2 * one).flatten().tolist() == pytest.approx([1.2, 1.6])
    assert ascend(along, zero[:, :, :2], one, 9 * one).flatten().tolist() == [3, 4]


class Recorded(ModelReader):
    """Remembers by how much the hidden states were changed in each pass."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.shares: list[Tensor] = []

    def steered_logits(
        self, tokens: Tokens, depth: float, change: Callable[[Tensor], Tensor]
    ) -> Tensor:
        def note(hidden: Tensor) -> Tensor:
            changed = change(hidden)
            gap = (changed - hidden).detach().norm(dim=-1)
            self.shares.append(gap / hidden.detach().norm(dim=-1))
            return changed

        return super().steered_logits(tokens, depth, note)


def test_change_is_small_and_on_the_prompt_only(tiny_model: PreTrainedModel) -> None:
    """4 steps: 5 passes, the first without a change; at most the radius, nothing on the answer."""
    batch, student = batch_of(SINGLE), Recorded(tiny_model)
    o.LatentAdversarial(o.CrossEntropy(), depth=0.5, radius=0.05)(batch, student, None)
    assert len(student.shares) == 5
    assert student.shares[0].max() == 0
    for share in student.shares[1:]:
        assert 0 < share.max() <= 0.05 + 1e-4
        assert share[0, 2:].max() == 0  # prompt of 2 tokens, then answer and padding
        assert share[1, 5:].max() == 0
        assert (share[0, :2] > 0).all()


def test_makes_the_inner_loss_worse(tiny_model: PreTrainedModel) -> None:
    terms = o.LatentAdversarial(o.CrossEntropy(), depth=0.5, radius=0.3)(
        batch_of(SINGLE), ModelReader(tiny_model), None
    )
    plain = o.CrossEntropy()(batch_of(SINGLE), ModelReader(tiny_model), None).values
    torch.testing.assert_close(terms.statistics["clean"], plain.detach())
    assert terms.values.detach().mean() > plain.detach().mean()


def test_gradient_reaches_the_weights_once(tiny_model: PreTrainedModel) -> None:
    """The ascent leaves nothing in the parameters; a vanishing radius gives the plain gradient."""
    reader, batch = ModelReader(tiny_model), batch_of(SINGLE)
    with torch.no_grad():  # as in validation
        still = o.LatentAdversarial(o.CrossEntropy(), radius=0.3)(batch, reader, None)
    assert torch.equal(still.values, still.statistics["clean"])
    terms = o.LatentAdversarial(o.CrossEntropy(), radius=1e-7)(batch, reader, None)
    assert all(p.grad is None for p in tiny_model.parameters())
    gradient = torch.autograd.grad(terms.values.sum(), list(tiny_model.parameters()))
    plain = o.CrossEntropy()(batch, reader, None).values.sum()
    for one, other in zip(
        gradient, torch.autograd.grad(plain, list(tiny_model.parameters())), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_same_for_a_row_alone_and_in_company(tiny_model: PreTrainedModel) -> None:
    def values(rows: list[int]) -> Tensor:
        batch = batch_of([SINGLE[i] for i in rows])
        objective = o.LatentAdversarial(o.NPO(), depth=0.5)
        result: Tensor = objective(batch, ModelReader(tiny_model), ModelReader(tiny_model)).values
        return result

    torch.testing.assert_close(values([0, 1])[0], values([0])[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values([1, 0])[0], values([1])[0], rtol=1e-4, atol=1e-4)


def test_no_gradient_reaches_the_teacher(tiny_model: PreTrainedModel) -> None:
    """Also where its reader carries one."""
    other = make_tiny_model(seed=1)
    objective = o.LatentAdversarial(o.ForwardKL(), steps=1)
    terms = objective(batch_of(SINGLE), ModelReader(tiny_model), ModelReader(other))
    terms.values.sum().backward()
    assert all(parameter.grad is None for parameter in other.parameters())


def test_bad_input(tiny_model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"`LatentAdversarial.radius` should be above 0"):
        o.LatentAdversarial(o.NPO(), radius=0)
    with pytest.raises(InputError, match="hidden states can be changed"):
        o.LatentAdversarial(o.CrossEntropy())(batch_of(SINGLE), FrozenReader(tiny_model), None)
    objective = o.LatentAdversarial(o.CrossEntropy())
    question = batch_of([[row("question", [5, 6], [])]])
    with pytest.raises(InputError, match="`answer: none`"):
        objective(question, ModelReader(tiny_model), None)
