"""Objective: one thing that training must achieve. What it reads, what it needs, its weight.

An objective gets a batch of its own rows and readers for the student and the teacher; it knows no
tokenizer, trainer or data set. To add one: subclass `LogitObjective`, give the constructor the
hyper-parameters that a config may set, and return one loss term per prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.objectives.schedule import Constant, Schedule
from lit_unlearn.types import TokenBatch, Tokens


class Reader(Protocol):
    """Reads a model at the places where it must predict."""

    def logits(self, tokens: Tokens) -> Tensor:
        """``[N, V]`` float32 logits at the positions of ``tokens``."""


@dataclass(frozen=True)
class Terms:
    """What an objective returns: its loss is the mean of `values`."""

    values: Tensor
    """``[n]`` loss terms: one per prediction, or one per row, as the objective says."""
    rows: Tensor
    """``[n]``, int64: the batch row of each term."""
    statistics: dict[str, Tensor] = field(default_factory=dict)
    """Further figures to log, ``[n]`` each, without gradient."""

    def row_means(self, row_count: int) -> Tensor:
        """``[B]`` mean of each row's terms."""
        sums = torch.zeros(row_count, dtype=self.values.dtype, device=self.values.device)
        counts = torch.zeros_like(sums)
        sums.index_add_(0, self.rows, self.values)
        counts.index_add_(0, self.rows, torch.ones_like(self.values))
        return sums / counts.clamp(min=1)


class Objective(nn.Module, ABC):
    """One thing training must achieve.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
    """

    needs_teacher: bool = False
    """Whether `forward` reads the teacher."""
    perturbation: float = 0.0
    """How far the trained weights are moved up the objective's own gradient, as a 2-norm, before
    the gradient is taken that enters the update; 0 for not at all. See `SharpnessAware`."""

    def __init__(self, weight: float = 1.0, schedule: Schedule | None = None) -> None:
        super().__init__()
        if weight < 0:
            raise InputError(
                f"Parameter `weight` of {type(self).__name__} should be at least 0. "
                f"Found {weight}; to raise a loss instead of lowering it use an objective that "
                "says so in its name."
            )
        self.weight = weight
        self.schedule = schedule or Constant()

    def weight_at(self, step: int) -> float:
        """The weight at an optimizer step; the first is 0."""
        return self.weight * self.schedule.factor(step)

    def asks(self, batch: TokenBatch) -> list[Tokens]:
        """All that `forward` may ask the teacher about a batch, at all positions.

        A teacher with a cache reads it before training starts.
        """
        return [batch.teacher] if self.needs_teacher else []

    @abstractmethod
    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        """Loss terms of one batch; the gradient flows through the student alone."""


class LogitObjective(Objective):
    """An objective that compares logits position by position.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained: 1 for the first token only (DUET),
            n for the first n, None for all.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        if positions is not None and positions < 1:
            raise InputError(
                f"Parameter `positions` of {type(self).__name__} should be at least 1, or null "
                f"for all answer positions. Found {positions}."
            )
        self.positions = positions

    @abstractmethod
    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        """Loss terms from logits at the batch's predictions, ``[N, V]`` each."""

    def limit(self, batch: TokenBatch) -> TokenBatch:
        """The batch with only the predictions that are trained."""
        return batch if self.positions is None else batch.first_positions(self.positions)

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        batch = self.limit(batch)
        teacher_logits = reference_logits(batch.teacher, teacher, self)
        return self.terms(student.logits(batch.student), teacher_logits, batch)


def asked(
    objectives: Mapping[str, Objective], steps: Iterable[Mapping[str, list[TokenBatch]]]
) -> Iterator[Tokens]:
    """All that objectives may ask the teacher.

    Args:
        objectives: By name.
        steps: For each step the micro batches of each objective.
    """
    for step in steps:
        for name, batches in step.items():
            for batch in batches:
                yield from objectives[name].asks(batch)


def required(teacher: Reader | None, objective: Objective) -> Reader:
    """The teacher, or an error that says how to get one."""
    if teacher is None:
        raise InputError(
            f"Objective {type(objective).__name__} needs a teacher. Found none; set "
            "`model.teacher`, for example to FrozenTeacher."
        )
    return teacher


def reference_logits(tokens: Tokens, teacher: Reader | None, objective: Objective) -> Tensor | None:
    """``[N, V]`` the teacher's logits without gradient; None for an objective that needs none."""
    if not objective.needs_teacher:
        return None
    return required(teacher, objective).logits(tokens).detach()


def check_teacher(objectives: Iterable[Objective]) -> None:
    """See that objectives can do without a teacher.

    Raises:
        InputError: One of them cannot.
    """
    for objective in objectives:
        if objective.needs_teacher:
            required(None, objective)


def targets(batch: TokenBatch, objective: Objective) -> Tensor:
    """The batch's answer tokens, or an error that says where they come from."""
    if batch.target_ids is None:
        raise InputError(
            f"Objective {type(objective).__name__} needs answers, but its rows have none "
            "(`answer: none`). Set the objective's `answer` to gold, teacher or refusal."
        )
    return batch.target_ids
