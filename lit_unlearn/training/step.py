"""The parts of a step: an objective's gradient over its micro batches, the update, the record.

Free of Lightning: a loop of one's own can call them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import gather_or_raise, in_step, world_size
from lit_unlearn.distributed.reduction import Totals, first, merged, summed, totals
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.collect import (
    Gradient,
    Sum,
    combine,
    scale,
    take_gradient,
    write_gradient,
)
from lit_unlearn.gradients.combination import Combination
from lit_unlearn.gradients.finite import (
    NotFiniteError,
    check_weights,
    gradient_trouble,
    loss_trouble,
)
from lit_unlearn.gradients.gathering import Diagnostics, Gathering
from lit_unlearn.gradients.gramian import GroupedGramian, gramian
from lit_unlearn.gradients.perturbation import perturbed
from lit_unlearn.gradients.weighting import LossWeighting, Weighting
from lit_unlearn.objectives.objective import Objective, Reader, Terms
from lit_unlearn.types import TokenBatch

LOSS = "loss"
"""Name of the loss terms among an objective's figures."""
UNMOVED = "unmoved"
"""Statistic of an objective that moves the weights: its loss where they were."""


class StepRecord(TypedDict):
    """What one step leaves for callbacks."""

    step: int
    losses: dict[str, float]
    """Unweighted loss of each objective that had rows."""
    gramian: GroupedGramian | None
    """Of the unweighted gradients, on diagnosed steps."""
    diagnostics: Diagnostics
    """Whether the Gramian is exact, or that of sketches."""
    weights: Tensor | None
    """``[M]``: the factor with which each unweighted gradient entered the update; NaN under a
    combination, which no factors express."""
    with_update: Tensor | None
    """``[M + 1, M + 1]``: inner products of the unweighted gradients and, last, of the update; on
    diagnosed steps under a combination, as it cannot be had from the Gramian."""


def empty_record(step: int, diagnostics: Diagnostics) -> StepRecord:
    """The record of a step of which nothing is known yet."""
    return StepRecord(
        step=step,
        losses={},
        gramian=None,
        diagnostics=diagnostics,
        weights=None,
        with_update=None,
    )


@dataclass(frozen=True)
class ObjectiveGradient:
    """What one objective gives to a step."""

    gradient: Gradient
    """Of the mean loss; all None where there were no rows. The whole sum where it was added."""
    count: int
    """Loss terms, of all processes."""
    loss: float = math.nan
    """Mean over the terms; NaN where there are none."""
    statistics: dict[str, float] = field(default_factory=dict)
    """Means of the objective's further figures."""
    added: bool = False
    """Whether the gradient is the sum that was given, with this objective's part in it."""


def objective_gradient(
    name: str,
    objective: Objective,
    batches: Sequence[TokenBatch],
    student: Reader,
    teacher: Reader | None,
    parameters: Sequence[Tensor],
    step: int = 0,
    backward: Callable[[Tensor], None] = torch.Tensor.backward,
    models: Sequence[nn.Module] = (),
    onto: Sum | None = None,
) -> ObjectiveGradient:
    """Gradient of an objective's mean loss over all its micro batches, of all processes.

    With several processes each calls this with as many micro batches, some of them borrowed where
    it has too few of its own, and all get the same figures, and gradients that are equal or slices
    of the same.

    For an objective with a `perturbation` all micro batches are read twice: first for the gradient
    along which the weights are moved, then for the one that counts. Afterwards the weights are what
    they were.

    Args:
        name: The objective's name, for messages.
        objective: What is to be achieved.
        batches: Its rows in this step.
        student: Reads the model that the parameters belong to.
        teacher: Gives target logits; None if the objective needs none.
        parameters: The trainable parameters; their ``grad`` is None before and after.
        step: Number of the step, for messages.
        backward: Called with each micro batch's summed loss, or with the mean of the only one.
        models: What the readers read; needed where models are sharded over processes.
        onto: A sum to which the backward pass may add by itself, which saves a gradient's memory
            and the time to fill it. It may where the factor of the mean is known before that pass:
            one micro batch, one process, no `perturbation`. None keeps the gradient apart.

    Raises:
        NotFiniteError: A loss or the gradient is not, in any process.
        InputError: The loss depends on nothing that is trained.
    """
    whole = len(batches) == 1 and world_size() == 1  # its mean is known before its backward pass
    adds = onto if whole and not objective.perturbation else None

    def read() -> tuple[Gradient, Totals]:
        parts: list[dict[str, Tensor]] = []
        trouble: list[NotFiniteError] = []
        write_gradient(parameters, adds.gradient if adds else [None] * len(parameters))
        for batch in batches:
            with in_step(*models):
                terms: Terms = objective(batch, student, teacher)
            trouble += loss_trouble(name, terms.values, batch.example_ids, step)
            total = terms.values.sum() / (max(1, len(terms.values)) if whole else 1)
            if not total.requires_grad:
                raise _out_of_reach(name, objective)
            backward(_factor(batch, adds) * total)
            if not batch.borrowed:
                parts.append({LOSS: terms.values.detach(), **terms.statistics})
        everywhere = merged(gather_or_raise(totals(parts), trouble))
        gradient = summed(take_gradient(parameters), parameters)
        rows = [each for batch in batches for each in batch.example_ids]
        gather_or_raise(None, gradient_trouble(name, gradient, rows, step))
        return gradient, everywhere

    gradient, found = read()
    statistics: dict[str, float] = {}
    if objective.perturbation and batches:
        statistics[UNMOVED] = _mean(found[LOSS])
        with perturbed(parameters, gradient, objective.perturbation):
            gradient, found = read()
    loss, count = found.pop(LOSS, (0.0, 0))
    if not count:
        return ObjectiveGradient(gradient, 0, added=adds is not None)
    statistics |= {statistic: _mean(total) for statistic, total in found.items()}
    if not whole:
        gradient = scale(gradient, 1 / count)
    return ObjectiveGradient(gradient, count, loss / count, statistics, adds is not None)


def _factor(batch: TokenBatch, onto: Sum | None) -> float:
    if batch.borrowed:
        return 0.0
    return 1.0 if onto is None else onto.factor


def _out_of_reach(name: str, objective: Objective) -> InputError:
    return InputError(
        f"Objective {name!r} ({type(objective).__name__}) should have a loss that depends on what "
        "is trained. Found nothing trained in front of it; raise its `depth` or `depths`, or let "
        "`model.student.trainable` name decoder blocks at or below it."
    )


def _mean(total: tuple[float, int]) -> float:
    return total[0] / total[1] if total[1] else math.nan


def preferences(
    objectives: Mapping[str, Objective], step: int, learnt: LossWeighting | None
) -> Tensor:
    """``[M]``, float64: the objectives' weights at a step, with the factors learnt from losses."""
    weights = [objective.weight_at(step) for objective in objectives.values()]
    found = torch.tensor(weights, dtype=torch.float64)
    return found if learnt is None else found * learnt.factors()


def combined(
    gathered: Gathering,
    weighting: Weighting,
    combination: Combination | None,
    record: StepRecord,
    diagnose: bool,
) -> Gradient:
    """The update, by the combination or the weighting; notes how in the record.

    Args:
        gathered: The objectives' gradients, or their weighted sum.
        weighting: Turns the weighted Gramian into factors; not asked where nothing needs it.
        combination: Makes the update in its place.
        record: Gets weights and, on a diagnosed step, the Gramian.
        diagnose: Whether this step is diagnosed.

    Raises:
        NotFiniteError: The weighting gives weights that are not.
    """
    preferences = gathered.preferences
    if combination is not None:
        update: Gradient = combination(gathered.kept, preferences)
        record["weights"] = torch.full_like(preferences, math.nan)
        if diagnose:
            record["gramian"] = gathered.gramian()
            record["with_update"] = gramian([*gathered.kept, update]).whole
        return update
    if not (gathered.keep or gathered.sketches):
        return gathered.total
    grouped = gathered.gramian()
    record["gramian"] = grouped if diagnose else None
    if not gathered.keep:
        record["weights"] = preferences
        return gathered.total
    weighted = preferences[:, None] * grouped.whole * preferences[None, :]
    weights = preferences * first(weighting(weighted)).to(torch.float64)
    check_weights(weights, record["step"])
    record["weights"] = weights
    return combine(gathered.kept, weights)
