"""The parts of a step: an objective's gradient over its micro batches, the update, the record.

Free of Lightning: a loop of one's own can call them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from lit_unlearn.gradients.collect import Gradient, combine, scale, take_gradient
from lit_unlearn.gradients.combination import Combination
from lit_unlearn.gradients.gathering import Diagnostics, Gathering
from lit_unlearn.gradients.gramian import GroupedGramian, gramian
from lit_unlearn.gradients.perturbation import perturbed
from lit_unlearn.gradients.weighting import Weighting
from lit_unlearn.objectives.objective import Objective, Reader, Terms
from lit_unlearn.schema import InputError, TokenBatch

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


@dataclass(frozen=True)
class ObjectiveGradient:
    """What one objective gives to a step."""

    gradient: Gradient
    """Of the mean loss; all None where there were no rows."""
    count: int
    """Loss terms."""
    loss: float = math.nan
    """Mean over the terms; NaN where there are none."""
    statistics: dict[str, float] = field(default_factory=dict)
    """Means of the objective's further figures."""


def objective_gradient(
    name: str,
    objective: Objective,
    batches: Sequence[TokenBatch],
    student: Reader,
    teacher: Reader | None,
    parameters: Sequence[Tensor],
    step: int = 0,
    backward: Callable[[Tensor], None] = torch.Tensor.backward,
) -> ObjectiveGradient:
    """Gradient of an objective's mean loss over all its micro batches.

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
        backward: Called with each micro batch's summed loss.

    Raises:
        InputError: A loss is not finite.
    """

    def read() -> tuple[Gradient, list[Terms]]:
        parts: list[Terms] = []
        for batch in batches:
            terms: Terms = objective(batch, student, teacher)
            _check_finite(name, terms.values, batch, step)
            backward(terms.values.sum())
            parts.append(Terms(terms.values.detach(), terms.rows, terms.statistics))
        return take_gradient(parameters), parts

    gradient, parts = read()
    statistics: dict[str, float] = {}
    if objective.perturbation and parts:
        statistics[UNMOVED] = _mean([part.values for part in parts])
        with perturbed(parameters, gradient, objective.perturbation):
            gradient, parts = read()
    count = sum(len(part.values) for part in parts)
    if not count:
        return ObjectiveGradient(gradient, 0)
    for statistic in parts[0].statistics:
        statistics[statistic] = _mean([part.statistics[statistic] for part in parts])
    loss = _mean([part.values for part in parts])
    return ObjectiveGradient(scale(gradient, 1 / count), count, loss, statistics)


def _mean(parts: Sequence[Tensor]) -> float:
    return float(torch.cat([part.float() for part in parts]).mean())


def _check_finite(name: str, values: Tensor, batch: TokenBatch, step: int) -> None:
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            f"The loss of objective {name!r} is no finite number at step {step}, in a batch with "
            f"the rows {', '.join(batch.example_ids)}. Lower the learning rate "
            "(`model.optimizer.init_args.lr`) or the objective's `weight`, or set `clip_norm`."
        )


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
    weights = preferences * weighting(weighted).to(torch.float64)
    record["weights"] = weights
    return combine(gathered.kept, weights)
