"""The interface of an objective, and what objectives have in common.

An objective gets a batch of its own rows and one reader each for student and teacher. It knows no
tokenizer, trainer or data set. To add one, write a subclass of `LogitObjective`: a keyword-only
dataclass whose fields are what a config may set, with a method `terms` that returns one loss term
per prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, check_fields, ranged
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch, Tokens

__all__ = ["LogitObjective", "Objective", "Reader", "Terms", "WrappingObjective"]
__all__ += ["all_teacher_inputs", "check_teacher", "present", "row_means", "row_sums"]


class Reader(Protocol):
    """A model that is read at the positions that predict the answers."""

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits at the positions of ``tokens``."""


@dataclass(frozen=True)
class Terms:
    """Loss terms of a batch; the loss is the mean of `values`."""

    values: Tensor
    """``[n]`` loss terms: one per prediction, or one per row, as the objective says."""
    rows: Tensor
    """``[n]``, int64: the batch row of each term."""
    statistics: dict[str, Tensor] = field(default_factory=dict)
    """Further figures to log, ``[n]`` each, without gradient."""


@dataclass(kw_only=True)
class Objective(ABC):
    """One thing that training must achieve.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; null keeps it constant.
    """

    needs_teacher = False
    """Whether the objective reads the teacher."""
    reads_teacher_bare = False
    """Whether the teacher is read without the prefills of the rows only."""
    needs_answers = False
    """Whether the objective reads the answers of its rows."""
    needs_pairs = False
    """Whether the objective compares two answers to each question."""
    needs_spans = False
    """Whether the objective reads which tokens hold the knowledge (`mark_spans`)."""
    statistics = tuple[str, ...]()
    """Names of the figures that are logged beside the loss."""
    perturbation = 0.0
    """Distance by which the step moves the trained weights up the objective's own gradient before
    it takes the gradient that enters the update; see `SharpnessAware`."""

    weight: float = ranged(1.0, 0, repair="to raise a loss use an objective that does so")
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        """Return the loss terms of one batch; the gradient flows through the student alone."""

    def limit(self, batch: TokenBatch) -> TokenBatch:
        """Return the batch with the predictions that are read; all by default."""
        return batch

    def weight_at(self, step: int) -> float:
        """Return the weight at an optimizer step; the first step is 0."""
        return self.weight * (1.0 if self.schedule is None else self.schedule.factor(step))

    def teacher_inputs(self, batch: TokenBatch) -> list[Tokens]:
        """Return the teacher inputs that this batch may need, with all their positions.

        A teacher with a cache reads them before training starts.
        """
        return [batch.teacher] if self.needs_teacher else []

    def require(self, teacher: Reader | None) -> Reader:
        """Return the teacher, or raise an `InputError` where there is none."""
        if teacher is None:
            raise InputError(
                f"Objective {type(self).__name__} needs a teacher. Found none; set "
                "`model.teacher`, for example to FrozenTeacher."
            )
        return teacher

    def teacher_logits(self, tokens: Tokens, teacher: Reader | None) -> Tensor | None:
        """Return the teacher's ``[N, V]`` logits without gradient; None if none are needed."""
        return self.require(teacher).logits(tokens).detach() if self.needs_teacher else None

    def targets(self, batch: TokenBatch) -> Tensor:
        """Return the answer tokens of the batch, ``[N]``, int64."""
        if batch.target_ids is None:
            raise InputError(
                f"Objective {type(self).__name__} needs answers, but its rows have none "
                "(`answer: none`). Set the objective's `answer` to gold, teacher or refusal."
            )
        return batch.target_ids


@dataclass(kw_only=True)
class LogitObjective(Objective):
    """An objective that compares logits position by position.

    Args:
        positions: Number of predictions of each answer that are trained, counted from the first
            answer token; null for all.
    """

    positions: int | None = ranged(None, 1, repair="set null for all answer positions")

    @abstractmethod
    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        """Return the loss terms from student's and teacher's logits, ``[N, V]``.

        ``teacher_logits`` carry no gradient, and are None unless `needs_teacher`.
        """

    def limit(self, batch: TokenBatch) -> TokenBatch:
        return batch if self.positions is None else batch.first_positions(self.positions)

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        batch = self.limit(batch)
        teacher_logits = self.teacher_logits(batch.teacher, teacher)
        return self.terms(student.logits(batch.student), teacher_logits, batch)


@dataclass(kw_only=True)
class WrappingObjective(Objective):
    """An objective that trains another one in a way of its own, and needs what that needs.

    Args:
        weight: Factor of the objective's gradient in the update; the weight of the inner objective
            is not used.
        objective: The inner objective.
    """

    logs = ""
    """Name of the figure that is logged beside those of the inner objective."""
    objective: Objective = field(kw_only=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        inner = self.objective
        self.needs_teacher, self.needs_answers = inner.needs_teacher, inner.needs_answers
        self.needs_pairs, self.needs_spans = inner.needs_pairs, inner.needs_spans
        self.statistics = (*inner.statistics, self.logs)

    def limit(self, batch: TokenBatch) -> TokenBatch:
        return self.objective.limit(batch)


def all_teacher_inputs(
    objectives: Mapping[str, Objective], steps: Iterable[Mapping[str, list[TokenBatch]]]
) -> Iterator[Tokens]:
    """Yield the teacher inputs that a run may need, from the micro batches of each step."""
    for step in steps:
        for name, batches in step.items():
            for batch in batches:
                yield from objectives[name].teacher_inputs(batch)


def check_teacher(objectives: Mapping[str, Objective]) -> None:
    """Check that no objective needs a teacher; one that does is an `InputError`."""
    for name, objective in objectives.items():
        if objective.needs_teacher:
            raise InputError(
                f"Objective `model.objectives.{name}`: {type(objective).__name__} needs a teacher. "
                "Found none; set `model.teacher`, for example to FrozenTeacher."
            )


def present(teacher_logits: Tensor | None) -> Tensor:
    """Return the teacher's logits, which are there in an objective with `needs_teacher`."""
    if teacher_logits is None:
        raise ValueError("`teacher_logits` is None although the objective needs a teacher.")
    return teacher_logits


def row_sums(values: Tensor, rows: Tensor, row_count: int) -> Tensor:
    """Return ``[B]``: the sum of each row's values (``values`` and ``rows``: ``[n]``)."""
    zeros = torch.zeros(row_count, dtype=values.dtype, device=values.device)
    return zeros.index_add(0, rows, values)


def row_means(values: Tensor, rows: Tensor, row_count: int) -> Tensor:
    """Return ``[B]``: the mean of each row's values, 0 for a row without values."""
    counts = row_sums(torch.ones_like(values), rows, row_count)
    return row_sums(values, rows, row_count) / counts.clamp(min=1)
