"""The parts of a training step: gradients of the objectives, the update, the record.

Free of Lightning, so that any training loop can call them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import gather_or_raise, in_step, world_size
from lit_unlearn.distributed.reduction import Totals, first, merged, summed, totals
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.accumulator import Accumulator
from lit_unlearn.gradients.collect import Gradient, combine, scale, take_gradient
from lit_unlearn.gradients.combination import Combination
from lit_unlearn.gradients.finite import check_weights, gradient_trouble, loss_trouble
from lit_unlearn.gradients.gramian import GroupedGramian, gramian
from lit_unlearn.gradients.perturbation import perturbed
from lit_unlearn.gradients.weighting import LossWeighting, Weighting
from lit_unlearn.objectives import Objective, Reader
from lit_unlearn.types import TokenBatch

__all__ = ["Diagnostics", "Figures", "Models", "ObjectiveStep", "StepRecord"]
__all__ += ["accumulate", "combined", "empty_record", "preferences"]

Diagnostics = Literal["exact", "sketch"]
_LOSS = "loss"
"""Name of the loss terms among an objective's figures."""
_UNMOVED = "unmoved"
"""Statistic of an objective that moves the weights: its loss before the move."""


class StepRecord(TypedDict):
    """Results of one step, for callbacks."""

    step: int
    losses: dict[str, float]
    """Unweighted loss of each objective that had rows."""
    gramian: GroupedGramian | None
    """Gramian of the unweighted gradients, on diagnosed steps."""
    diagnostics: Diagnostics
    """Whether the Gramian is exact, or that of sketches."""
    weights: Tensor | None
    """``[M]``: the factor of each unweighted gradient in the update; NaN under a combination, which
    no factors express."""
    with_update: Tensor | None
    """``[M + 1, M + 1]``: inner products of the unweighted gradients and, last, of the update; on
    diagnosed steps under a combination, since it does not follow from the Gramian."""


def empty_record(step: int, diagnostics: Diagnostics) -> StepRecord:
    """Return the record at the start of a step."""
    return StepRecord(
        step=step, losses={}, gramian=None, diagnostics=diagnostics, weights=None, with_update=None
    )


@dataclass(frozen=True)
class Models:
    """The models that a step reads, and its backward pass."""

    student: Reader
    teacher: Reader | None
    """Reader of target logits; None if no objective needs them."""
    modules: Sequence[nn.Module] = ()
    """Modules behind the readers; needed where they are sharded over processes."""
    backward: Callable[[Tensor], None] = torch.Tensor.backward


@dataclass(frozen=True)
class ObjectiveStep:
    """One objective with its rows in one step."""

    name: str
    objective: Objective
    batches: Sequence[TokenBatch]
    """Micro batches. Each process has the same number of them; a process with too few rows has
    borrowed ones."""
    step: int = 0
    """Number of the step, for messages."""

    @property
    def single(self) -> bool:
        """Whether the number of loss terms is known before the only backward pass."""
        return len(self.batches) == 1 and world_size() == 1


@dataclass(frozen=True)
class Figures:
    """Figures of an objective in one step, over all processes."""

    count: int
    """Number of loss terms."""
    loss: float = math.nan
    """Mean of the loss terms; NaN without terms."""
    statistics: dict[str, float] = field(default_factory=dict)
    """Means of the objective's further figures."""


def accumulate(one: ObjectiveStep, models: Models, accumulator: Accumulator) -> Figures:
    """Add the gradient of an objective's mean loss to the accumulator.

    The mean is over all micro batches of all processes. Every process must call this; all get the
    same figures, and gradients that are equal or slices of the same. ``grad`` of the parameters is
    None afterwards.

    An objective with a `perturbation` reads all micro batches twice: first for the gradient along
    which the weights are moved, then for the one that counts. The weights are restored exactly.

    Raises:
        NotFiniteError: A loss or the gradient is not finite, in any process.
        InputError: The loss does not depend on trained weights.
    """
    radius = one.objective.perturbation
    factor = accumulator.start(single=one.single and not radius)
    gradient, found = _gradient(one, models, accumulator.parameters, factor)
    statistics: dict[str, float] = {}
    if radius and one.batches:
        statistics[_UNMOVED] = _mean(found[_LOSS])
        with perturbed(accumulator.parameters, gradient, radius):
            gradient, found = _gradient(one, models, accumulator.parameters, factor)
    loss, count = found.pop(_LOSS, (0.0, 0))
    accumulator.add(scale(gradient, 1 / count) if count and not one.single else gradient)
    statistics |= {statistic: _mean(total) for statistic, total in found.items()}
    return Figures(count, loss / count, statistics) if count else Figures(0)


def _gradient(
    one: ObjectiveStep, models: Models, parameters: Sequence[Tensor], factor: float
) -> tuple[Gradient, Totals]:
    """Return the gradient of the summed loss, of the mean if `single`, and sums of all figures."""
    parts: list[dict[str, Tensor]] = []
    trouble: list[InputError] = []
    for batch in one.batches:
        with in_step(*models.modules):
            terms = one.objective(batch, models.student, models.teacher)
        trouble += loss_trouble(one.name, terms.values, batch.example_ids, one.step)
        total = terms.values.sum() / (max(1, len(terms.values)) if one.single else 1)
        if not total.requires_grad:
            raise InputError(
                f"Objective {one.name!r} ({type(one.objective).__name__}) should have a loss that "
                "depends on trained weights. Found none in front of it; raise its `depth` or "
                "`depths`, or let `model.student.trainable` name decoder blocks at or below it."
            )
        models.backward((0.0 if batch.borrowed else factor) * total)
        if not batch.borrowed:
            parts.append({_LOSS: terms.values.detach(), **terms.statistics})
    everywhere = merged(gather_or_raise(totals(parts), trouble))
    gradient = summed(take_gradient(parameters), parameters)
    rows = [each for batch in one.batches for each in batch.example_ids]
    gather_or_raise(None, gradient_trouble(one.name, gradient, rows, one.step))
    return gradient, everywhere


def _mean(total: tuple[float, int]) -> float:
    return total[0] / total[1] if total[1] else math.nan


def preferences(
    objectives: Mapping[str, Objective], step: int, learnt: LossWeighting | None
) -> Tensor:
    """Return ``[M]``, float64: the objectives' weights at a step times their learnt factors."""
    weights = [objective.weight_at(step) for objective in objectives.values()]
    found = torch.tensor(weights, dtype=torch.float64)
    return found if learnt is None else found * learnt.factors()


def combined(
    accumulator: Accumulator,
    weighting: Weighting,
    combination: Combination | None,
    record: StepRecord,
    diagnose: bool,
) -> Gradient:
    """Return the update of the combination or the weighting, and complete the record.

    The weighting turns the weighted Gramian into factors, if the gradients were kept; a combination
    takes its place. The record gets the weights and, if the step is diagnosed, the Gramian.

    Raises:
        NotFiniteError: A weight is not finite.
    """
    preferences = accumulator.preferences
    if combination is not None:
        update = combination(accumulator.kept, preferences)
        record["weights"] = torch.full_like(preferences, math.nan)
        if diagnose:
            record["gramian"] = accumulator.gramian()
            record["with_update"] = gramian([*accumulator.kept, update]).whole
        return update
    grouped = accumulator.gramian()
    if grouped is None:
        return accumulator.total
    record["gramian"] = grouped if diagnose else None
    if accumulator.mode != "keep":
        record["weights"] = preferences
        return accumulator.total
    weighted = preferences[:, None] * grouped.whole * preferences[None, :]
    weights = preferences * first(weighting(weighted)).to(torch.float64)
    check_weights(weights, record["step"])
    record["weights"] = weights
    return combine(accumulator.kept, weights)
