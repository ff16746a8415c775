"""Objectives tell what they read."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lit_unlearn import objectives
from lit_unlearn.data.collation import collate
from lit_unlearn.objectives.objective import LogitObjective, Terms
from lit_unlearn.planning.forward_passes import ForwardPass, observe
from lit_unlearn.types import EncodedExample, TokenBatch

_ANSWER = 10


def batch(rows: int = 4, forms: int = 1, prefilled: bool = False) -> TokenBatch:
    """Rows of 30 tokens for the student and 60 for the teacher, 10 of them answer."""
    made = [
        EncodedExample(
            example_id="given",
            student_ids=tuple(range(number, number + 30)),
            student_start=30 - _ANSWER,
            teacher_ids=tuple(range(number, number + 60)),
            teacher_start=60 - _ANSWER,
            target_count=_ANSWER,
            unprefilled_ids=tuple(range(number, number + 55)) if prefilled else (),
            unprefilled_start=55 - _ANSWER if prefilled else 0,
        )
        for number in range(rows)
    ]
    return collate([[row] * forms for row in made], 0)


def read(model: Literal["student", "teacher"], length: int, each: int, logits: int) -> ForwardPass:
    """The pass over four packed rows of which ``each`` tokens are read."""
    n = 4 * each
    size = (4, length, n, n * each, logits, model == "student")
    return ForwardPass(model, *size, packed=True, queries=n, keys=n)


def test_plain_likelihood_reads_the_student_alone() -> None:
    """Log-probabilities, and twice a gradient of their size, are what a backward pass holds."""
    work = observe(objectives.CrossEntropy(), batch())
    assert work.passes == (read("student", 30, 29, 40),)
    assert work.logit_rows == 3 * 40
    assert (work.repeats, work.cache_positions) == (1, 0)


def test_distillation_reads_the_teacher_behind_its_context() -> None:
    work = observe(objectives.BidirectionalDistillation(positions=4), batch())
    assert work.passes == (
        read("teacher", 60, 53, 16),
        read("student", 30, 23, 16),
    )
    assert 3 * 16 <= work.logit_rows <= 8 * 16
    assert work.cache_positions == 40  # a cache keeps all positions of a row


def test_candidates_are_scored_without_gradient() -> None:
    inner = objectives.BidirectionalDistillation()
    work = observe(objectives.Adversarial(inner), batch(2, forms=3, prefilled=True))
    assert [(r.model, r.rows, r.length, r.gradient) for r in work.passes] == [
        ("teacher", 6, 60, False),
        ("teacher", 6, 55, False),
        ("student", 6, 30, False),
        ("student", 2, 30, True),
    ]


def test_pairs_hidden_states_ascent_and_sharpness() -> None:
    pairs = observe(objectives.DPO(), batch(forms=2))
    assert [r.rows for r in pairs.passes] == [8, 8]
    hidden = observe(objectives.RMU(), batch())
    assert (len(hidden.passes), hidden.logit_rows) == (1, 0)
    latent = observe(objectives.LatentAdversarial(objectives.CrossEntropy(), steps=4), batch())
    assert len(latent.passes) == 5
    assert observe(objectives.SharpnessAware(objectives.NPO()), batch()).repeats == 2


def test_an_objective_of_ones_own() -> None:
    class Twice(LogitObjective):
        def terms(
            self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
        ) -> Terms:
            squared = student_logits.square()
            return Terms((squared * squared.exp()).sum(-1), batch.student.rows)

    assert observe(Twice(), batch()).logit_rows >= 4 * 40
