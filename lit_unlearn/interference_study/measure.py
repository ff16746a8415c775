"""What is read off a model: Gramians of batches, the effect of small steps, hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lit_unlearn.gradients.collect import Gradient, add_to
from lit_unlearn.gradients.diagnostics import AT_REST, AT_REST_HALF
from lit_unlearn.gradients.gramian import gramian
from lit_unlearn.gradients.transfer import first_order, transfer_matrix
from lit_unlearn.interference_study.batches import Batches, Rows, Stream
from lit_unlearn.models.hidden import HiddenReader
from lit_unlearn.objectives import Objective
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.step import objective_gradient
from lit_unlearn.types import TokenBatch
from lit_unlearn.utils.progress import Stage


@dataclass(frozen=True)
class Subject:
    """The model that is measured, and what is to be achieved with it."""

    student: nn.Module
    teacher: Teacher | None
    objectives: Mapping[str, Objective]
    parameters: Sequence[Tensor]
    groups: Mapping[str, Sequence[int]]
    device: torch.device

    def gradient(self, name: str, batches: Sequence[TokenBatch]) -> Gradient:
        """Gradient of an objective's mean loss."""
        return self._read(name, batches, torch.Tensor.backward)[0]

    def loss(self, name: str, batches: Sequence[TokenBatch]) -> float:
        """Mean loss of an objective."""
        return self._read(name, batches, _nothing)[1]

    def _read(
        self, name: str, batches: Sequence[TokenBatch], backward: Callable[[Tensor], None]
    ) -> tuple[Gradient, float]:
        found = objective_gradient(
            name,
            self.objectives[name],
            [batch.to(self.device) for batch in batches],
            HiddenReader(self.student),
            self.teacher,
            self.parameters,
            backward=backward,
        )
        return found.gradient, found.loss


def _nothing(loss: Tensor) -> None:
    """Takes no gradient: only the loss is wanted."""


@dataclass
class Measured:
    """One representation."""

    groups: tuple[str, ...] = ()
    gramians: dict[int, Tensor] = field(default_factory=dict)
    """Answer tokens of a batch -> ``[K, G + 1, M, M]``: per batch, the whole model last."""
    transfer: Tensor | None = None
    """``[K, M, M]``: see `transfer_matrix`."""
    expected: Tensor | None = None
    """``[K, M, M]``: see `first_order`."""
    states: dict[str, Tensor] = field(default_factory=dict)
    """``[L, n, d]``: output of each decoder block, mean over a row's answer positions."""
    tokens: dict[str, list[list[int]]] = field(default_factory=dict)
    """The answer tokens of the same rows; empty where rows have no answers."""
    visits: dict[str, float] = field(default_factory=dict)
    """How often each objective's rows were used in the largest batches."""
    seen: dict[str, set[str]] = field(default_factory=dict)
    """Ids of those rows."""
    remarks: list[str] = field(default_factory=list)
    rest_share: float = AT_REST
    """Of the largest norm, below which a gradient is rounding."""


@dataclass(frozen=True)
class Amounts:
    """How much is measured."""

    sizes: Sequence[int]
    """Answer tokens of each objective in a batch, ascending."""
    batches: int
    steps: int
    """Batches in which small steps are taken."""
    radius: float

    def work(self, objectives: int) -> int:
        """Return the tokens read in one representation; a backward pass counts twice."""
        reads = 3 * sum(self.sizes) * self.batches + self.sizes[-1] * self.batches
        reads += self.sizes[-1] * self.steps * (objectives + 4)
        return reads * objectives


def measure(subject: Subject, rows: Rows, amounts: Amounts, stage: Stage) -> Measured:
    """Measure one representation; the weights are afterwards what they were.

    Args:
        subject: Model and objectives.
        rows: The data.
        amounts: How much is measured.
        stage: Counts `Amounts.work`.
    """
    names = list(subject.objectives)
    half = any(parameter.dtype != torch.float32 for parameter in subject.parameters)
    found = Measured(rest_share=AT_REST_HALF if half else AT_REST)
    for size in amounts.sizes:
        stream, grams = Stream(rows, size), []
        for index in range(amounts.batches):
            batch = stream.batch()
            gradients = [subject.gradient(name, batch[name]) for name in names]
            grouped = gramian(gradients, subject.groups)
            grams.append(torch.cat([grouped.by_group, grouped.whole[None]]))
            del gradients
            stage.add(3 * size * len(names))
            if size == amounts.sizes[-1]:
                _read_states(subject, batch, found)
                stage.add(size * len(names))
                if index < amounts.steps:
                    _step(subject, batch, amounts.radius, grouped.whole, found)
                    stage.add(size * len(names) * (len(names) + 4))
        found.gramians[size], found.groups = torch.stack(grams), grouped.groups
        found.visits = stream.visits()
    return found


def _step(subject: Subject, batch: Batches, radius: float, whole: Tensor, found: Measured) -> None:
    """Small steps in one batch, one for each objective."""

    def gradient_of(name: str) -> Callable[[], Gradient]:
        return lambda: subject.gradient(name, batch[name])

    def loss_of(name: str) -> Callable[[], float]:
        return lambda: subject.loss(name, batch[name])

    names = list(subject.objectives)
    matrix = transfer_matrix(
        subject.parameters,
        [gradient_of(name) for name in names],
        [loss_of(name) for name in names],
        radius,
    )
    found.transfer = _joined(found.transfer, matrix)
    found.expected = _joined(found.expected, first_order(whole, radius))


def _joined(before: Tensor | None, more: Tensor) -> Tensor:
    return more[None] if before is None else torch.cat([before, more[None]])


def _read_states(subject: Subject, batch: Batches, found: Measured) -> None:
    """Mean hidden state of every row that was not seen before, of candidates the first."""
    reader = HiddenReader(subject.student)
    for name, parts in batch.items():
        seen = found.seen.setdefault(name, set())
        for part in parts:
            rows, tokens = _row_means(reader, part.to(subject.device), seen)
            if not tokens:
                continue
            before = found.states.get(name)
            found.states[name] = rows if before is None else torch.cat([before, rows], dim=1)
            found.tokens.setdefault(name, []).extend(tokens)


@torch.no_grad()
def _row_means(
    reader: HiddenReader, batch: TokenBatch, seen: set[str]
) -> tuple[Tensor, list[list[int]]]:
    """``[L, B', d]`` on the CPU and the answer tokens, of rows that are not in ``seen``."""
    new = []
    for row, example_id in enumerate(batch.example_ids):
        if example_id not in seen:
            seen.add(example_id)
            new.append(row)
    hidden = reader.hidden(batch.student) if new else torch.empty(0)
    means, tokens = [], []
    for row in new:
        mine = batch.student.rows == row
        means.append(hidden[:, mine].mean(dim=1).cpu())
        tokens.append([] if batch.target_ids is None else batch.target_ids[mine].tolist())
    return torch.stack(means, dim=1) if means else hidden, tokens


def joint_gradient(subject: Subject, batch: Batches) -> Gradient:
    """The sum of the objectives' gradients on one batch."""
    total: Gradient = [None] * len(subject.parameters)
    for name in subject.objectives:
        add_to(total, subject.gradient(name, batch[name]))
    return total
