"""Decline from everywhere: turn to the refusal at every position of the answer to forget."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Reader, Terms, WrappingObjective
from lit_unlearn.types import TokenBatch, Tokens

__all__ = ["DeclineEverywhere"]


@dataclass(kw_only=True)
class DeclineEverywhere(WrappingObjective):
    """Turn to the refusal at every position of the answer to forget, in one pass over the answer.

    The rows have the text that the student must not say, usually `answer: gold`, and a context
    under which the teacher declines. At every position of that text the inner objective compares
    the student with the teacher's prediction of the first token of its reply: the pull raises the
    beginning of a refusal, the push lowers the tokens with which the student would go on. From the
    second position on, the teacher's tokens are spelled with a space in front. The teacher reads
    the question alone, without the answer and without the prefill of a row. The refusal itself is
    learnt by another objective, on rows with `answer: refusal`. Logs `turns`, the student's
    probability of the first token of the teacher's reply. Unit: that of the inner objective.

    Formula: the inner loss of z_t and z_ref at the first position of the reply, for every position
        t of the answer.
    Source: ours, for the prefills of every depth of Zhong, Liu and Zhu 2026, arXiv 2604.15482.
    Needs: answers, teacher.
    Cost: student 1, teacher 1 (the question alone).

    Args:
        objective: Objective that compares student and teacher, such as BidirectionalDistillation.
            Its `positions` are those of the answer.
    """

    logs = "turns"
    needs_teacher = reads_teacher_bare = True
    objective: LogitObjective = field(kw_only=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.needs_answers = True
        if not self.objective.needs_teacher:
            raise InputError(
                "Parameter `DeclineEverywhere.objective` should compare the student with the "
                f"teacher. Found {type(self.objective).__name__}, which does not read the teacher; "
                "use BidirectionalDistillation or ForwardKL."
            )

    def teacher_inputs(self, batch: TokenBatch) -> list[Tokens]:
        return [_asked(batch).question]

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        batch = self.limit(batch)
        self.targets(batch)
        question, prefilled = _asked(batch)
        reply = self.require(teacher).logits(question).detach()
        inside = (batch.offsets > 0) | prefilled[batch.student.rows]
        spelled = torch.stack([reply, losses.inside_text(reply, batch.spellings)])
        target = spelled[inside.long(), batch.student.rows]
        logits = student.logits(batch.student)
        terms = self.objective.terms(logits, target, batch)
        first = target.argmax(-1, keepdim=True)
        turns = logits.detach().softmax(-1).gather(-1, first).squeeze(-1)
        return Terms(terms.values, terms.rows, {**terms.statistics, self.logs: turns})


class _Asked(NamedTuple):
    """Input of the teacher."""

    question: Tokens
    """Context and question of each row, with one prediction."""
    prefilled: Tensor
    """``[B]``, bool: whether the student's row has a prefill that the teacher does not read."""


def _asked(batch: TokenBatch) -> _Asked:
    first = batch.offsets == 0
    behind = batch.teacher.select_predictions(first)
    bare = behind if batch.unprefilled is None else batch.unprefilled.select_predictions(first)
    ends = bare.columns + 1  # one prediction a row, in the order of the rows
    length = int(ends.max())
    mask = torch.arange(length, device=ends.device) < ends[:, None]
    question = Tokens(bare.input_ids[:, :length], mask.long(), bare.rows, bare.columns)
    return _Asked(question, bare.columns != behind.columns)
