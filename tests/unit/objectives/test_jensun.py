"""JensUn: worked values, the divergence summed over the vocabulary, and the repeated refusal."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn import objectives as o
from lit_unlearn.objectives.jensun import divergence_from_token
from tests.unit.objectives.given import PAIRS, batch_of, given, log_softmax64


def test_worked_values() -> None:
    """p = 1/2: ln 2 + (-ln 2 / 2 - 1.5 ln 1.5) / 2 = 0.2158; ln 2 without probability, 0 at 1."""
    log_p = torch.tensor([math.log(0.5), -1e4, 0.0], dtype=torch.float64, requires_grad=True)
    values = divergence_from_token(log_p)
    assert values.tolist() == pytest.approx([0.2157616, math.log(2), 0.0], abs=1e-7)
    (gradient,) = torch.autograd.grad(values.sum(), log_p)
    assert gradient.isfinite().all()
    assert gradient[0] == pytest.approx(0.5 * math.log(1 / 3) / 2)


def divergence(log_p: list[float], token: int) -> float:
    """Sum over the vocabulary, as the definition says."""
    total = 0.0
    for v, value in enumerate(log_p):
        p, target = math.exp(value), float(v == token)
        mean = (p + target) / 2
        total += p * math.log(p / mean) / 2 + (target * math.log(1 / mean) / 2 if target else 0)
    return total


@pytest.mark.parametrize(("end", "tokens"), [(True, [7, 8, 7, 14]), (False, [7, 7, 7, 14])])
def test_objective_against_loops(end: bool, tokens: list[int]) -> None:
    """Refusals (7, 8) and (14, 15, 16), answers of three tokens and one; 8 and 16 end a turn."""
    batch = batch_of(PAIRS)
    student = given(batch)
    terms = o.JensUn(end=end)(batch, student, None)
    places = [(1, 1), (1, 2), (1, 3), (3, 3)]
    found = [log_softmax64(student.all_logits[place].tolist()) for place in places]
    expected = [divergence(log_p, token) for log_p, token in zip(found, tokens, strict=True)]
    assert terms.values.tolist() == pytest.approx(expected, rel=1e-5)
    assert terms.rows.tolist() == [1, 1, 1, 3]
    chances = [math.exp(log_p[token]) for log_p, token in zip(found, tokens, strict=True)]
    assert terms.statistics["refusal"].tolist() == pytest.approx(chances, rel=1e-5)
    assert student.sequences == 2
