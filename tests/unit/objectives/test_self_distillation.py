"""Self-made targets: worked values, independent computations, and what they leave alone."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn import objectives as o
from lit_unlearn.objectives import self_distillation as sd
from lit_unlearn.types import TokenBatch
from tests.unit.objectives.given import SINGLE, batch_of, given, log_softmax64, row

LOGITS = torch.randn(5, 7, generator=torch.Generator().manual_seed(6), dtype=torch.float64) * 2
REFERENCE = torch.randn(5, 7, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
TARGETS = torch.tensor([0, 6, 3, 3, 1])


def test_undial_worked_value() -> None:
    """V = 2, z_ref = (ln 3, 0), y = 0, beta = ln 3: the target is (1/2, 1/2).

    Against p = (3/4, 1/4): -(ln 3/4 + ln 1/4) / 2 = 0.836988.
    """
    logits, y = torch.tensor([[math.log(3), 0.0]]), torch.tensor([0])
    target = sd.lowered(logits, y, math.log(3))
    assert sd.soft_cross_entropy(logits, target).item() == pytest.approx(0.836988, abs=1e-6)


def test_ceu_worked_value() -> None:
    """p = (1/2, 1/4, 1/4), y = 0: the target is (0, 1/2, 1/2), the loss ln 4."""
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    target = sd.without(logits, torch.tensor([0]))
    assert sd.soft_cross_entropy(logits, target).item() == pytest.approx(math.log(4), abs=1e-6)


def test_at_chance_worked_value() -> None:
    """p = (1/2, 3/8, 1/8), y = 0: 1/3 for the answer, and 1/2, 1/6 for the others (3 : 1)."""
    logits = torch.tensor([[0.5, 0.375, 0.125]]).log()
    target = sd.at_chance(logits, torch.tensor([0])).softmax(-1)
    assert target[0].tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 6], abs=1e-6)


def test_maximum_entropy_worked_values() -> None:
    """p = (3/4, 1/4): KL(U||p) = -ln 2 - (ln 3/4 + ln 1/4) / 2 = 0.143841; ln 2 - H = 0.130812."""
    logits = torch.tensor([[0.75, 0.25]]).log()
    assert sd.divergence_from_uniform(logits).item() == pytest.approx(0.143841, abs=1e-6)
    reverse = sd.divergence_from_uniform(logits, "reverse").item()
    assert reverse == pytest.approx(0.130812, abs=1e-6)
    for direction in ("forward", "reverse"):
        even = sd.divergence_from_uniform(torch.full((1, 9), 4.0), direction)  # type: ignore[arg-type]
        assert even.item() == pytest.approx(0.0, abs=1e-6)


def test_against_loops() -> None:
    """UNDIAL, CE-U and Unilogit from their definitions, token by token in float64."""
    undial = sd.soft_cross_entropy(LOGITS, sd.lowered(REFERENCE, TARGETS, 2.5))
    ceu = sd.soft_cross_entropy(LOGITS, sd.without(LOGITS, TARGETS))
    target = sd.at_chance(LOGITS, TARGETS)
    unilogit = o.Unilogit().terms(LOGITS, None, _batch()).values
    for i, y in enumerate(TARGETS.tolist()):
        lp = log_softmax64(LOGITS[i].tolist())
        shifted = REFERENCE[i].tolist()
        shifted[y] -= 2.5
        weights = [math.exp(v) for v in log_softmax64(shifted)]
        value = -sum(w * v for w, v in zip(weights, lp, strict=True))
        assert float(undial[i]) == pytest.approx(value)
        rest = 1 - math.exp(lp[y])
        value = -sum(math.exp(v) / rest * v for j, v in enumerate(lp) if j != y)
        assert float(ceu[i]) == pytest.approx(value)
        wanted = [1 / 7 if j == y else math.exp(v) / rest * (1 - 1 / 7) for j, v in enumerate(lp)]
        assert target[i].softmax(-1).tolist() == pytest.approx(wanted)
        value = sum(math.exp(v) * (v - math.log(w)) for v, w in zip(lp, wanted, strict=True))
        assert float(unilogit[i]) == pytest.approx(value)


def _batch() -> TokenBatch:
    """Five predictions whose answer tokens are TARGETS."""
    return batch_of([[row("five", [2], TARGETS.tolist())]])


def test_undial_without_a_drop_is_still_at_the_reference() -> None:
    """Beta 0: cross-entropy with the reference, whose gradient at the reference is 0."""
    logits = REFERENCE.clone().requires_grad_()
    values = sd.soft_cross_entropy(logits, sd.lowered(REFERENCE, TARGETS, 0.0))
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert gradient.abs().max() < 1e-12


def test_only_the_answer_token_moves_relative_to_the_others() -> None:
    """In all three the target keeps the ratios of all other tokens."""
    for target in (
        sd.lowered(LOGITS, TARGETS, 3.0),
        sd.without(LOGITS, TARGETS),
        sd.at_chance(LOGITS, TARGETS),
    ):
        moved = target != LOGITS
        assert moved.sum(-1).tolist() == [1] * 5
        assert moved[torch.arange(5), TARGETS].all()


def test_ceu_leaves_the_first_tokens_alone() -> None:
    batch = batch_of(SINGLE)
    student = given(batch, grad=True)
    terms = o.CEU(skip=1)(batch, student, None)
    assert terms.rows.tolist() == [0, 1, 1]
    terms.values.sum().backward()
    first = batch.offsets == 0
    assert student.all_logits.grad is not None
    gradient = student.all_logits.grad[batch.student.rows, batch.student.columns].abs().sum(-1)
    assert (gradient[first] == 0).all()
    assert (gradient[~first] > 0).all()
    assert len(o.CEU(skip=0)(batch, student, None).values) == 5


def test_flatness_worked_values() -> None:
    """Logits (4, 1, 1): max 4, mean 2, squared distance 4. Equal logits: 0. A shift: the same."""
    logits = torch.tensor([[4.0, 1.0, 1.0], [3.0, 3.0, 3.0], [14.0, 11.0, 11.0]])
    assert sd.logit_flatness(logits).tolist() == [4, 0, 4]


def test_flattening_reads_the_logits_that_predict_the_answer() -> None:
    """Prompt of two tokens, answer of two: positions 1 and 2, not 2 and 3."""
    batch = batch_of([[row("q", [5, 6], [7, 8])]])
    student = given(batch)
    values = o.LogitFlattening()(batch, student, None).values
    expected = [
        (float(z.max()) - sum(z.tolist()) / len(z)) ** 2 for z in student.all_logits[0, 1:3]
    ]
    assert values.tolist() == pytest.approx(expected, rel=1e-5)
