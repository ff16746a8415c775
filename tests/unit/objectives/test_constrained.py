"""PDU's forget loss: worked values, and that it reads where the answer is predicted."""

from __future__ import annotations

import pytest
import torch

from lit_unlearn.objectives import LogitFlattening
from lit_unlearn.objectives.constrained import logit_flatness
from tests.unit.objectives.given import batch_of, given, row


def test_worked_values() -> None:
    """Logits (4, 1, 1): max 4, mean 2, squared distance 4. Equal logits: 0. A shift: the same."""
    logits = torch.tensor([[4.0, 1.0, 1.0], [3.0, 3.0, 3.0], [14.0, 11.0, 11.0]])
    assert logit_flatness(logits).tolist() == [4, 0, 4]


def test_reads_the_logits_that_predict_the_answer() -> None:
    """Prompt of two tokens, answer of two: positions 1 and 2, not 2 and 3."""
    batch = batch_of([[row("q", [5, 6], [7, 8])]])
    student = given(batch)
    values = LogitFlattening()(batch, student, None).values
    expected = [
        (float(z.max()) - sum(z.tolist()) / len(z)) ** 2 for z in student.all_logits[0, 1:3]
    ]
    assert values.tolist() == pytest.approx(expected, rel=1e-5)
