"""Preference losses: worked values, an independent computation, and the limits papers state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_unlearn import objectives as o
from lit_unlearn.objectives import preference
from lit_unlearn.objectives.likelihood import gradient_ascent
from lit_unlearn.objectives.objective import row_means, row_sums
from lit_unlearn.objectives.preference import answer_pairs
from lit_unlearn.types import TokenBatch
from tests.unit.objectives.given import (
    PAIRS,
    SAME,
    SINGLE,
    Given,
    Groups,
    batch_of,
    given,
    log_softmax64,
)


def test_worked_values() -> None:
    """Half as likely as the reference (l - l_ref = -ln 2), beta 1.

    NPO: -2 ln sigmoid(ln 2) = -2 ln(2/3) = 0.810930. At the reference 2 ln 2 = 1.386294. SimNPO
    with NLL/|y| = ln 3, delta = ln 3 - ln 2: the same 0.810930.
    """
    half = preference.npo(torch.tensor([-math.log(4)]), torch.tensor([-math.log(2)]), 1.0)
    assert half.item() == pytest.approx(0.810930, abs=1e-6)
    equal = preference.npo(torch.tensor([-3.0]), torch.tensor([-3.0]), 1.0)
    assert equal.item() == pytest.approx(1.386294, abs=1e-6)
    simple = preference.simnpo(torch.tensor([math.log(3)]), 1.0, math.log(1.5))
    assert simple.item() == pytest.approx(0.810930, abs=1e-6)


def test_npo_tends_to_gradient_ascent() -> None:
    """The gradient with respect to l is 2 sigmoid(beta (l - l_ref)) -> 1 as beta -> 0."""
    log_p = torch.tensor([-5.0, -0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-1.0, -3.0], dtype=torch.float64)
    for beta, distance in ((1.0, 0.5), (1e-2, 2e-2), (1e-4, 2e-4)):
        (gradient,) = torch.autograd.grad(preference.npo(log_p, reference, beta).sum(), log_p)
        assert (gradient - 1).abs().max() < 2 * distance
        expected = 2 * torch.sigmoid(beta * (log_p - reference))
        torch.testing.assert_close(gradient, expected.detach())


def test_npo_is_bounded_and_ascent_is_not() -> None:
    log_p = torch.tensor([-1e6])
    assert preference.npo(log_p, torch.tensor([-10.0]), 0.1).item() == 0.0
    assert gradient_ascent(-log_p).item() == -1e6


def test_simnpo_is_npo_with_a_reference_of_equal_tokens() -> None:
    """Answers of one length n, l_ref = -n delta: SimNPO's beta is n times NPO's, the value 1/n."""
    n, delta, beta = 4, 0.7, 2.0
    log_p = torch.tensor([-1.0, -9.0], dtype=torch.float64)
    reference = torch.full_like(log_p, -n * delta)
    torch.testing.assert_close(
        preference.simnpo(-log_p / n, beta, delta),
        preference.npo(log_p, reference, beta / n) / n,
    )


def test_simnpo_divides_by_the_length() -> None:
    """Two answers with the same mean NLL and different lengths count the same; in NPO they do not.

    Logits 0 everywhere: every token has NLL ln 50. Beta 1: softplus(-ln 50) * 2 = 2 ln(1.02).
    """
    batch = batch_of(SINGLE)
    reader = Given(torch.zeros(2, 9, 50), torch.zeros(2, 2, 9, 6))
    values = o.SimNPO(beta=1.0)(batch, reader, None).values
    torch.testing.assert_close(values, torch.full((2,), 2 * math.log(1.02)))
    sums = o.NPO(beta=1.0)(batch, given(batch), reader).statistics["log_ratio"]
    assert sums[0] != sums[1]


def answers(reader: Given, groups: Groups) -> list[float]:
    """Log-probability of each row's answer, token by token, in float64."""
    batch = batch_of(groups)
    sums = [0.0] * len(batch)
    assert batch.target_ids is not None
    tokens = zip(
        batch.student.rows.tolist(),
        batch.student.columns.tolist(),
        batch.target_ids.tolist(),
        strict=True,
    )
    for row, column, target in tokens:
        sums[row] += log_softmax64(reader.all_logits[row, column].tolist())[target]
    return sums


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_npo_against_loops() -> None:
    batch = batch_of(SAME)
    student, teacher = given(batch), given(batch, seed=1)
    found = o.NPO(beta=0.3)(batch, student, teacher).values
    pairs = zip(answers(student, SAME), answers(teacher, SAME), strict=True)
    expected = [-2 / 0.3 * log_sigmoid(-0.3 * (now - ref)) for now, ref in pairs]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_dpo_and_answer_preservation_against_loops() -> None:
    batch = batch_of(PAIRS)
    student, teacher = given(batch), given(batch, seed=1)
    now, ref = answers(student, PAIRS), answers(teacher, PAIRS)
    margins = [(now[i] - ref[i]) - (now[i + 1] - ref[i + 1]) for i in (0, 2)]
    dpo = o.DPO(beta=0.2)(batch, student, teacher)
    assert dpo.values.tolist() == pytest.approx(
        [-2 / 0.2 * log_sigmoid(0.2 * m) for m in margins], rel=1e-5
    )
    assert dpo.statistics["margin"].tolist() == pytest.approx(margins, rel=1e-4)
    kept = o.AnswerPreservation(beta=0.2)(batch, student, None).values
    expected = [-1 / 0.2 * log_sigmoid(0.2 * (now[i] - now[i + 1])) for i in (0, 2)]
    assert kept.tolist() == pytest.approx(expected, rel=1e-5)


def test_dpo_gradient_raises_the_preferred_and_lowers_the_rejected() -> None:
    batch = batch_of(PAIRS[:1])
    student = given(batch, grad=True)
    o.DPO()(batch, student, given(batch, seed=1)).values.sum().backward()
    gradient = student.all_logits.grad
    assert gradient is not None
    assert gradient[0, 1, 7] < 0  # a descent step raises the preferred answer's first token
    assert gradient[1, 1, 30] > 0


def test_rows_worked_values() -> None:
    """Rows with the values (1, 2), (5) and none: sums 3, 5 and 0, means 1.5, 5 and 0."""
    values, rows = torch.tensor([1.0, 5.0, 2.0]), torch.tensor([0, 1, 0])
    assert row_sums(values, rows, 3).tolist() == [3, 5, 0]
    assert row_means(values, rows, 3).tolist() == [1.5, 5, 0]


def test_answer_pairs_worked_value() -> None:
    preferred, rejected = answer_pairs(torch.tensor([1, 0, 0, 1]))
    assert (preferred.tolist(), rejected.tolist()) == ([1, 0], [2, 3])


@pytest.mark.parametrize("make", [o.NPO, o.SimNPO])
def test_positions_limit_the_sum(make: type[o.LogitObjective]) -> None:
    """Only the first token of each answer counts: changing the others changes nothing."""
    batch = batch_of(SINGLE)
    student = given(batch)
    first = _values(make, batch, student)
    later = batch.offsets > 0
    student.all_logits[batch.student.rows[later], batch.student.columns[later]] = 5.0
    torch.testing.assert_close(_values(make, batch, student), first)


def _values(make: type[o.LogitObjective], batch: TokenBatch, student: Given) -> Tensor:
    result: Tensor = make(positions=1)(batch, student, given(batch, seed=1)).values
    return result
