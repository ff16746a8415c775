"""Properties of every loss: what pads, order and company may not change, and where gradients go."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_unlearn import objectives as o
from lit_unlearn.errors import InputError
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.objectives import Objective, losses
from lit_unlearn.objectives.losses import log_likelihood
from lit_unlearn.objectives.objective import Terms
from lit_unlearn.types import TokenBatch
from tests.unit.objectives.given import (
    CASES,
    PAIRS,
    SAME,
    SINGLE,
    Groups,
    batch_of,
    given,
    row,
)
from tests.unit.objectives.test_losses import LITERAL


def terms(objective: Objective, groups: Groups, student: PreTrainedModel, pad_id: int = 0) -> Terms:
    teacher = ModelReader(make_tiny_model(seed=1).requires_grad_(False))
    result: Terms = objective(batch_of(groups, pad_id), ModelReader(student), teacher)
    return result


@pytest.mark.parametrize("name", CASES)
def test_padding_changes_nothing(name: str, tiny_model: PreTrainedModel) -> None:
    """A row (or pair) gives the same terms alone and beside a longer one, with any pad id."""
    case = CASES[name]
    alone = terms(case.make(), case.groups[:1], tiny_model).values
    beside = terms(case.make(), case.groups, tiny_model, pad_id=7).values[: len(alone)]
    assert len(alone) > 0
    torch.testing.assert_close(beside, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_row_order_changes_nothing(name: str, tiny_model: PreTrainedModel) -> None:
    case = CASES[name]
    one = terms(case.make(), case.groups, tiny_model)
    other = terms(case.make(), case.groups[::-1], tiny_model)
    torch.testing.assert_close(
        one.values.sort().values, other.values.sort().values, rtol=1e-4, atol=1e-5
    )
    assert len(one.rows) == len(one.values)
    assert all(len(figure) == len(one.values) for figure in one.statistics.values())
    assert not any(figure.requires_grad for figure in one.statistics.values())


def _positions(batch: TokenBatch, shape: torch.Size) -> Tensor:
    allowed = torch.zeros(shape, dtype=torch.bool)
    allowed[batch.student.rows, batch.student.columns] = True
    return allowed


@pytest.mark.parametrize("name", CASES)
def test_gradient_on_target_positions_only(name: str) -> None:
    batch = batch_of(CASES[name].groups)
    student, teacher = given(batch, grad=True), given(batch, seed=1, grad=True)
    CASES[name].make()(batch, student, teacher).values.sum().backward()
    touched = torch.zeros(student.all_logits.shape[:2], dtype=torch.bool)
    if student.all_logits.grad is not None:
        touched |= student.all_logits.grad.abs().sum(-1) > 0
    if student.all_hidden.grad is not None:
        touched |= student.all_hidden.grad.abs().sum((0, -1)) > 0
    assert touched.any()
    assert not (touched & ~_positions(batch, touched.shape)).any()
    assert teacher.all_hidden.grad is None
    assert teacher.all_logits.grad is None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_finite_for_extreme_numbers(name: str, scale: float) -> None:
    """Forgotten tokens may have any logit; all equal is the other extreme."""
    batch = batch_of(CASES[name].groups)
    student, teacher = given(batch, scale, grad=True), given(batch, scale, seed=1)
    values = CASES[name].make()(batch, student, teacher).values
    values.sum().backward()
    assert values.isfinite().all()
    for leaf in (student.all_logits, student.all_hidden):
        assert leaf.grad is None or leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("npo", 20 * math.log(2)),
        ("dpo", 20 * math.log(2)),
        ("bild", 0.0),
        ("rerouting", 1.0),
        ("hidden_retain", 0.0),
        ("hidden_retain_norm", 0.0),
    ],
)
def test_value_at_the_reference(name: str, expected: float, tiny_model: PreTrainedModel) -> None:
    """Student = teacher: NPO and DPO give (2 / beta) ln 2 with beta 0.1; distances give 0."""
    reader = ModelReader(tiny_model)
    groups = PAIRS if name == "dpo" else SAME
    values = CASES[name].make()(batch_of(groups), reader, reader).values
    torch.testing.assert_close(values, torch.full_like(values, expected), atol=1e-4, rtol=1e-5)


LIKELIHOOD = [
    "ascent",
    "wga",
    "satimp",
    "tnpo",
    "bst",
    "npo",
    "simnpo",
    "undial",
    "unilogit",
    "masc",
]


@pytest.mark.parametrize("name", [*LIKELIHOOD, "flattening"])
def test_a_step_makes_the_answer_less_likely(name: str) -> None:
    """A small descent step from a student that says the answer lowers its likelihood."""
    batch = batch_of([[row("known", [5, 6], [7, 8])]])
    student = given(batch, grad=False)
    target = batch.target_ids
    assert target is not None
    where = (batch.student.rows, batch.student.columns)
    student.all_logits[*where, target] += 3
    logits = student.all_logits.requires_grad_()
    teacher = given(batch, seed=1)
    teacher.all_logits = logits.detach().clone()
    CASES[name].make()(batch, student, teacher).values.sum().backward()
    assert logits.grad is not None
    with torch.no_grad():
        before, after = (
            log_likelihood(values[where], target).sum()
            for values in (logits, logits - 1e-3 * logits.grad)
        )
    assert float(after) < float(before)


@pytest.mark.parametrize("name", CASES)
def test_needs_teacher_says_what_is_read(name: str) -> None:
    """An objective that says it needs a teacher fails without one; the others never look."""
    batch = batch_of(CASES[name].groups)
    objective = CASES[name].make()
    if not objective.needs_teacher:
        objective(batch, given(batch), None)
        return
    with pytest.raises(InputError, match="needs a teacher"):
        objective(batch, given(batch), None)


@pytest.mark.parametrize("name", [*LIKELIHOOD, "ceu"])
def test_rows_without_answers_are_refused(name: str) -> None:
    batch = batch_of([[row("question", [5, 6], [])]])
    with pytest.raises(InputError, match="`answer: none`"):
        CASES[name].make()(batch, given(batch), given(batch))


@pytest.mark.parametrize("name", ["max_entropy", "flattening", "bild"])
def test_rows_without_answers_are_enough(name: str) -> None:
    batch = batch_of([[row("question", [5, 6], [])]])
    assert len(CASES[name].make()(batch, given(batch), given(batch)).values) == 1


@pytest.mark.parametrize("name", ["dpo", "answer_preservation", "flat_tv", "jensun"])
def test_pairs_are_asked_for(name: str) -> None:
    batch = batch_of(SINGLE)
    with pytest.raises(InputError, match=r"both answers.*set `rejected`"):
        CASES[name].make()(batch, given(batch), given(batch))


@pytest.mark.parametrize("name", ["dpo", "answer_preservation", "flat_tv", "jensun"])
def test_pairs_may_lie_anywhere_in_the_batch(name: str) -> None:
    """Rows of a group need not be neighbours; the earlier one is the preferred."""
    batch = batch_of(PAIRS)
    order = torch.tensor([2, 0, 3, 1])
    moved = replace(batch.select_rows(order), groups=batch.groups[order])
    student, teacher = given(batch), given(batch, seed=1)
    one = CASES[name].make()(batch, student, teacher).values
    torch.testing.assert_close(CASES[name].make()(moved, student, teacher).values, one)


def test_bad_parameters() -> None:
    with pytest.raises(
        InputError, match=r"`GradientAscent.nll_limit` should be above 0\. Found 0; set null"
    ):
        o.GradientAscent(nll_limit=0)
    with pytest.raises(InputError, match=r"`SatImp.beta2`.*Found -1"):
        o.SatImp(beta2=-1)
    with pytest.raises(InputError, match=r"`NPO.beta` should be above 0.*use GradientAscent"):
        o.NPO(beta=0)
    with pytest.raises(InputError, match=r"`BST.mix` should be at least 0 and at most 1"):
        o.BST(mix=1.5)
    with pytest.raises(InputError, match=r"`CEU.skip`"):
        o.CEU(positions=1)
    with pytest.raises(InputError, match=r"`UNDIAL.beta`"):
        o.UNDIAL(beta=-1)
    with pytest.raises(InputError, match=r"`BiLD.top_k` should be at least 3"):
        o.BiLD(top_k=2)
    with pytest.raises(InputError, match=r"Depths of HiddenRetain.*Found \[0\]"):
        o.HiddenRetain(depths=[0])
    with pytest.raises(InputError, match=r"`RMU.coefficient` should be above 0"):
        o.RMU(coefficient=-3)
    with pytest.raises(InputError, match=r"`AdaptiveRMU.scale` should be above 0"):
        o.AdaptiveRMU(scale=0)
    with pytest.raises(InputError, match=r"`BidirectionalDistillation.margin`"):
        o.BidirectionalDistillation(margin=-1)


def test_duet_is_one_direction_of_bidirectional_distillation() -> None:
    """DUET (arXiv 2601.21283, Eq. 3): Huber on the teacher's top K raw logits, no push."""
    generator = torch.Generator().manual_seed(8)
    student, teacher = torch.randn(2, 4, 8, generator=generator) * 2
    found = losses.bidirectional(student, teacher, top_k=3, push_top_k=0, **LITERAL)
    assert (found.push == 0).all()
    for i in range(len(student)):
        top = sorted(range(8), key=lambda v: -float(teacher[i, v]))[:3]
        gaps = [abs(float(student[i, v] - teacher[i, v])) for v in top]
        huber = [gap * gap / 2 if gap <= 1 else gap - 0.5 for gap in gaps]
        assert float(found.pull[i]) == pytest.approx(sum(huber) / 3, rel=1e-5)
