"""MASC: worked values of the margin, of the loss, and of the share that decides when to stop."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn import objectives as o
from lit_unlearn.errors import InputError
from lit_unlearn.objectives.masc import margin_at, rival_margin
from tests.unit.objectives.given import SINGLE, batch_of, given


def test_worked_values() -> None:
    """p = .6, .2, .1, .1: token 0 has .6 against .2 + .1, so 2/3 of the three; tau(2/3) = ln 2."""
    logits = torch.tensor([[0.6, 0.2, 0.1, 0.1]]).log()
    assert rival_margin(logits, torch.tensor([0]), 2).item() == pytest.approx(math.log(2))
    assert rival_margin(logits, torch.tensor([1]), 1).item() == pytest.approx(math.log(1 / 3))
    assert rival_margin(logits, torch.tensor([0]), 9).item() == pytest.approx(math.log(1.5))
    assert margin_at(2 / 3) == pytest.approx(math.log(2))
    with pytest.raises(InputError, match=r"`share` of a margin.*Found 1; 0\.7 is published"):
        o.MASC(share=1)


def test_objective_against_loops() -> None:
    """Zero below tau - buffer, 1 at tau; only tokens above tau violate."""
    batch = batch_of(SINGLE)
    student = given(batch, scale=3.0)
    assert batch.target_ids is not None
    expected, above = [], []
    places = zip(batch.student.rows, batch.student.columns, batch.target_ids, strict=True)
    for row, column, target in places:
        z = student.all_logits[row, column].tolist()
        rivals = sorted((value for v, value in enumerate(z) if v != target), reverse=True)[:10]
        margin = z[target] - math.log(sum(map(math.exp, rivals)))
        expected.append(max(0.0, (margin - (margin_at(0.02) - 4)) / 4))
        above.append(float(margin > margin_at(0.02)))
    terms = o.MASC(share=0.02, buffer=4)(batch, student, None)
    assert terms.values.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert terms.statistics["violation"].tolist() == above
    assert 0 < sum(above) < len(above)
    assert 0 in expected
