"""BiLD: worked value, an independent computation, and how it differs from logit matching."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn.objectives import losses
from lit_unlearn.objectives.bild import bild, top_differences
from tests.unit.objectives.given import log_softmax64

STUDENT = torch.randn(4, 8, generator=torch.Generator().manual_seed(8), dtype=torch.float64) * 2
TEACHER = torch.randn(4, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 2


def test_differences_worked_value() -> None:
    """Logits (5, 1, 3), chosen in the order 0, 2, 1: 5 - 3, 5 - 1, 3 - 1."""
    logits = torch.tensor([[5.0, 1.0, 3.0]])
    assert top_differences(logits, torch.tensor([[0, 2, 1]])).tolist() == [[2, 4, 2]]


@pytest.mark.parametrize(("top_k", "temperature"), [(3, 1.0), (4, 3.0), (50, 2.0)])
def test_against_loops(top_k: int, temperature: float) -> None:
    found = bild(STUDENT, TEACHER, top_k, temperature)
    for i in range(len(STUDENT)):
        s, t = STUDENT[i].tolist(), TEACHER[i].tolist()
        expected = 0.0
        for leader in (t, s):
            top = sorted(range(8), key=lambda v: -leader[v])[:top_k]
            pairs = [(a, b) for x, a in enumerate(top) for b in top[x + 1 :]]
            log_t = log_softmax64([(t[a] - t[b]) / temperature for a, b in pairs])
            log_s = log_softmax64([(s[a] - s[b]) / temperature for a, b in pairs])
            expected += sum(math.exp(x) * (x - y) for x, y in zip(log_t, log_s, strict=True))
        assert float(found[i]) == pytest.approx(expected)


def test_a_shift_changes_nothing_here_and_much_in_logit_matching() -> None:
    torch.testing.assert_close(bild(STUDENT + 7, TEACHER, 5, 3.0), bild(STUDENT, TEACHER, 5, 3.0))
    matched = losses.bidirectional(TEACHER + 7, TEACHER, top_k=5, push_top_k=0, space="logit").pull
    assert (matched > 1).all()
    torch.testing.assert_close(
        bild(TEACHER + 7, TEACHER, 5, 3.0), torch.zeros(4, dtype=torch.float64)
    )
