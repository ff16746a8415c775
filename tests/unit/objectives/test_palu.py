"""PALU: worked values, the first tokens of spans, and the parts of the loss against loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lit_unlearn import objectives as o
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.tiny import tiny_tokenizer
from lit_unlearn.objectives.palu import local_flatness, span_starts
from lit_unlearn.training.setup.views import Material, views
from lit_unlearn.types import Example, Turn
from tests.unit.objectives.given import MARKED, SINGLE, batch_of, given, log_softmax64


def test_worked_values() -> None:
    """Mean logit 1; the teacher's top 2 are tokens 0 and 1: ((3 - 1)^2 + (1 - 1)^2) / 2 = 2."""
    student, teacher = torch.tensor([[3.0, 1, 0, 0]]), torch.tensor([[5.0, 4, 0, 0]])
    assert local_flatness(student, teacher, 2).tolist() == [2.0]
    assert local_flatness(student, teacher, 99).tolist() == [1.5]  # (4 + 0 + 1 + 1) / 4


def test_span_starts_worked_values() -> None:
    """Spans of 3 and 1 tokens in one row, of 1 token in the next: their first two tokens."""
    marked = torch.tensor([1, 1, 1, 0, 1, 1, 0], dtype=torch.bool)
    rows = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    assert span_starts(marked, rows, 2).long().tolist() == [1, 1, 0, 0, 1, 1, 0]
    assert span_starts(marked, rows, 1).long().tolist() == [1, 0, 0, 0, 1, 1, 0]


def test_objective_against_loops() -> None:
    """Of the second row, its tokens 1 and 2 are marked; with `prefix` 1 the last is left alone.

    The teacher reads contexts of two tokens and of one in front.
    """
    batch = batch_of(MARKED)
    student, teacher = given(batch, grad=True), given(batch, seed=1)
    terms = o.PALU(top_k=3, prefix=1, keep=0.5)(batch, student, teacher)
    flatness, drift = [], []
    for start, other in ((1, 2), (5, 4)):
        row = len(flatness)
        z, context = student.all_logits[row, start].detach(), 2 - row
        reference = teacher.all_logits[row, start + context]
        top = sorted(range(50), key=lambda v: -float(reference[v]))[:3]
        flatness.append(sum(float((z[v] - z.mean()) ** 2) for v in top) / 3)
        now = log_softmax64(student.all_logits[row, other].tolist())
        ref = log_softmax64(teacher.all_logits[row, other + context].tolist())
        drift.append(sum(math.exp(p) * (p - q) for p, q in zip(now, ref, strict=True)))
    assert terms.statistics["flatness"].tolist() == pytest.approx(flatness, rel=1e-5)
    assert terms.statistics["drift"].tolist() == pytest.approx(drift, rel=1e-5)
    expected = [a + 0.5 * b for a, b in zip(flatness, drift, strict=True)]
    assert terms.values.tolist() == pytest.approx(expected, rel=1e-5)
    terms.values.sum().backward()
    assert student.all_logits.grad is not None
    assert student.all_logits.grad[1, 6].abs().sum() == 0


def test_marks_are_asked_for() -> None:
    batch = batch_of(SINGLE)
    with pytest.raises(InputError, match=r"`mark_spans: true`"):
        o.PALU()(batch, given(batch), given(batch))
    with pytest.raises(InputError, match=r"`mark_spans`.*Found `answer: refusal`"):
        ObjectiveData([Source("x")], "decline", answer="refusal", mark_spans=True)


def test_words_that_the_question_lacks_are_marked() -> None:
    """Of "ada is in rome", the question has the words "ada" and "is"; one letter is a token."""
    row = Example("r", (Turn("user", "where is ada"),), "ada is in rome", "question_answer")
    data = ObjectiveData([Source("x")], "decline", mark_spans=True)
    material = Material({"forget": data}, {"forget": [row]})
    ((view,),) = views("forget", [0], None, material, [row.answer], all_prefills=True)
    encoder = Encoder(tiny_tokenizer())
    found, plain = view.encode(encoder), replace(view, marks=False).encode(encoder)
    assert found is not None
    assert plain is not None
    answer = encoder.tokenizer.decode(
        [found.student_ids[found.student_start + i] for i in found.marked]
    )
    assert answer.replace(" ", "") == "inrome"
    assert batch_of([[found], [plain]]).marked is not None
    assert batch_of([[plain]]).marked is None
