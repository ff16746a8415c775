"""Measurement on a model: Gramians of batches, the effect of small steps, hidden states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.gradients.accumulator import Accumulator
from lit_unlearn.gradients.collect import Gradient, add_to
from lit_unlearn.gradients.diagnostics import AT_REST, AT_REST_HALF
from lit_unlearn.gradients.gramian import gramian
from lit_unlearn.gradients.transfer import first_order, transfer_matrix
from lit_unlearn.interference_study.batches import Batches, BatchStream, Rows
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.objectives import Objective
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.step import Models, ObjectiveStep, accumulate
from lit_unlearn.types import TokenBatch
from lit_unlearn.utils.progress import Stage

__all__ = ["Amounts", "Measurement", "Studied", "check_different", "joint_gradient", "measure"]


@dataclass(frozen=True)
class Studied:
    """The model that is measured, with its objectives."""

    student: nn.Module
    teacher: Teacher | None
    objectives: Mapping[str, Objective]
    parameters: Sequence[Tensor]
    groups: Mapping[str, Sequence[int]]
    """Indices of parameters by layer group."""
    device: torch.device

    def gradient(self, name: str, batches: Sequence[TokenBatch]) -> Gradient:
        """Return the gradient of an objective's mean loss."""
        return self._read(name, batches, torch.Tensor.backward)[0]

    def loss(self, name: str, batches: Sequence[TokenBatch]) -> float:
        """Return the mean loss of an objective."""
        return self._read(name, batches, lambda loss: None)[1]

    def _read(
        self, name: str, batches: Sequence[TokenBatch], backward: Callable[[Tensor], None]
    ) -> tuple[Gradient, float]:
        accumulator = Accumulator(self.parameters, torch.ones(1), {}, "keep")
        rows = [batch.to(self.device) for batch in batches]
        models = Models(ModelReader(self.student), self.teacher, backward=backward)
        figures = accumulate(ObjectiveStep(name, self.objectives[name], rows), models, accumulator)
        return accumulator.kept[0], figures.loss


@dataclass
class Measurement:
    """The raw numbers of one representation."""

    groups: tuple[str, ...] = ()
    gramians: dict[int, Tensor] = field(default_factory=dict)
    """Answer tokens of a batch -> ``[K, G + 1, M, M]`` for ``K`` batches, the whole model last."""
    transfer: list[Tensor] = field(default_factory=list)
    """``[M, M]`` of each batch with small steps, see `transfer_matrix`."""
    expected: list[Tensor] = field(default_factory=list)
    """``[M, M]`` of the same batches, see `first_order`."""
    states: dict[str, Tensor] = field(default_factory=dict)
    """``[L, n, d]`` outputs of each decoder block, means over answer positions, by objective."""
    tokens: dict[str, list[list[int]]] = field(default_factory=dict)
    """Answer tokens of the same rows, by objective; empty for rows without answer."""
    visits: dict[str, float] = field(default_factory=dict)
    """Mean number of uses of a row in the largest batches, by objective."""
    seen: dict[str, set[str]] = field(default_factory=dict)
    """Ids of the rows in `states`, by objective."""
    rest_share: float = AT_REST
    """Share of the largest norm below which a gradient is rounding."""


@dataclass(frozen=True)
class Amounts:
    """Extent of a measurement."""

    sizes: Sequence[int]
    """Answer tokens of each objective in a batch, ascending."""
    batches: int
    steps: int
    """Number of batches, of the largest size, in which small steps are taken."""
    radius: float
    """2-norm of these steps."""

    def __post_init__(self) -> None:
        check_number("batches", self.batches, 2)
        check_number("transfer_batches", self.steps, 0)
        check_number("radius", self.radius, 0, above=True)
        for size in self.sizes:
            check_number("batch_tokens", size, 1)
        check_different("batch_tokens", self.sizes)

    def work(self, objectives: int) -> int:
        """Return the number of tokens read per representation; a backward pass counts twice."""
        reads = 3 * sum(self.sizes) * self.batches + self.sizes[-1] * self.batches
        reads += self.sizes[-1] * self.steps * (objectives + 4)
        return reads * objectives


def check_different(option: str, values: Sequence[object]) -> None:
    """Check that an option has values, and that no two are equal."""
    if not values or len(set(values)) < len(values):
        raise InputError(f"--{option}: expected different values, found {list(values)}")


def measure(studied: Studied, rows: Rows, amounts: Amounts, stage: Stage) -> Measurement:
    """Measure one representation, and count `Amounts.work`; the weights do not change."""
    names = list(studied.objectives)
    half = any(parameter.dtype != torch.float32 for parameter in studied.parameters)
    found = Measurement(rest_share=AT_REST_HALF if half else AT_REST)
    for size in amounts.sizes:
        stream, grams = BatchStream(rows, size), []
        for index in range(amounts.batches):
            batch = stream.batch()
            gradients = [studied.gradient(name, batch[name]) for name in names]
            grouped = gramian(gradients, studied.groups)
            grams.append(torch.cat([grouped.by_group, grouped.whole[None]]))
            del gradients
            stage.add(3 * size * len(names))
            if size == amounts.sizes[-1]:
                _read_states(studied, batch, found)
                stage.add(size * len(names))
                if index < amounts.steps:
                    _step(studied, batch, amounts.radius, grouped.whole, found)
                    stage.add(size * len(names) * (len(names) + 4))
        found.gramians[size], found.groups = torch.stack(grams), grouped.groups
        found.visits = stream.visits()
    return found


def _step(
    studied: Studied, batch: Batches, radius: float, whole: Tensor, found: Measurement
) -> None:
    """Take a small step for each objective in one batch, and read all losses after each."""
    names = list(studied.objectives)
    gradients = [partial(studied.gradient, name, batch[name]) for name in names]
    losses = [partial(studied.loss, name, batch[name]) for name in names]
    found.transfer.append(transfer_matrix(studied.parameters, gradients, losses, radius))
    found.expected.append(first_order(whole, radius))


def _read_states(studied: Studied, batch: Batches, found: Measurement) -> None:
    """Read the mean hidden states of new rows; only the first candidate of a row is read."""
    reader = ModelReader(studied.student)
    for name, parts in batch.items():
        seen = found.seen.setdefault(name, set())
        for part in parts:
            means, tokens = _mean_states(reader, part.to(studied.device), seen)
            if tokens:
                before = [found.states[name]] if name in found.states else []
                found.states[name] = torch.cat([*before, means], dim=1)
                found.tokens.setdefault(name, []).extend(tokens)


@torch.no_grad()
def _mean_states(
    reader: ModelReader, batch: TokenBatch, seen: set[str]
) -> tuple[Tensor, list[list[int]]]:
    """Return ``[L, B', d]`` on the CPU and the answer tokens of rows that are not in ``seen``."""
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


def joint_gradient(studied: Studied, batch: Batches) -> Gradient:
    """Return the sum of the objectives' gradients on one batch."""
    total: Gradient = [None] * len(studied.parameters)
    for name in studied.objectives:
        add_to(total, studied.gradient(name, batch[name]))
    return total
