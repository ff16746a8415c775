"""From what was measured to figures with intervals: one line per figure, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lit_unlearn.gradients.diagnostics import at_rest, cosines, norms, without
from lit_unlearn.gradients.transfer import shared_gain
from lit_unlearn.interference_study.measure import Measured
from lit_unlearn.log_names import pairs
from lit_unlearn.metrics.functional.domain_gap import (
    covariance_cka,
    mmd,
    proxy_a_distance,
    token_divergence,
)
from lit_unlearn.metrics.functional.resampling import resampled_means
from lit_unlearn.metrics.functional.statistics import LEVEL, RESAMPLES, bootstrap_mean

WHOLE = "whole"
"""The layer group that is the whole model."""


class Line(NamedTuple):
    """One figure."""

    representation: str
    figure: str
    first: str
    """An objective; of a transfer the one for which the step is taken."""
    second: str
    where: str
    """A layer group or decoder block; empty where there is none."""
    tokens: int
    """Answer tokens of each objective in a batch, or in all."""
    value: float
    low: float = math.nan
    """Ends of a 95 % interval: bootstrap over batches, see `expanded`."""
    high: float = math.nan
    samples: int = 0
    """Batches, or rows of the smaller domain."""


def lines_of(name: str, found: Measured, objectives: Sequence[str]) -> list[Line]:
    """All figures of one representation.

    Args:
        name: The representation.
        found: What was measured.
        objectives: In the order of the gradients.
    """
    return [
        *_cosine_lines(name, found, objectives),
        *_transfer_lines(name, found, objectives),
        *_gap_lines(name, found, objectives),
    ]


def masked_cosines(gramians: Tensor, share: float) -> Tensor:
    """``[K, G + 1, M, M]`` cosines; NaN for objectives whose gradient is at rest.

    Args:
        gramians: ``[K, G + 1, M, M]``, the whole model last.
        share: Of the largest norm, below which a gradient is at rest (see `at_rest`).
    """
    return cosines(without(gramians, at_rest(gramians[:, -1], share)[:, None]))


def resting(found: Measured, objectives: Sequence[str]) -> list[str]:
    """Objectives whose gradient was at rest in some batch."""
    still = torch.zeros(len(objectives), dtype=torch.bool)
    for gramians in found.gramians.values():
        still |= (
            masked_cosines(gramians, found.rest_share)[:, -1]
            .diagonal(dim1=-2, dim2=-1)
            .isnan()
            .any(0)
        )
    return [name for name, rests in zip(objectives, still.tolist(), strict=True) if rests]


def difference_lines(
    before: Sequence[Line], after: Sequence[Line], measured: Mapping[str, Measured]
) -> list[Line]:
    """Cosines of the whole model in one representation minus those in another, largest batches.

    Args:
        before: Lines of the representation that is taken off.
        after: Lines of the other.
        measured: Of both, by name.
    """
    if not before or not after:
        return []
    one, two = before[0].representation, after[0].representation
    size = max(measured[one].gramians)
    values = [
        masked_cosines(found.gramians[size], found.rest_share)[:, -1]
        for found in (measured[one], measured[two])
    ]
    names = list(dict.fromkeys(line.first for line in after if line.figure == "gradient norm"))
    found = []
    for i, j in pairs(names):
        sides = [_finite(side[:, i, j]) for side in values]
        low, high = _difference(sides[0], sides[1])
        mean = _mean(sides[1]) - _mean(sides[0])
        label = f"{two} - {one}"
        line = Line(label, "cosine difference", names[i], names[j], WHOLE, size, mean, low, high)
        found.append(line._replace(samples=min(map(len, sides))))
    return found


# ----------------------------------------------------------------------------------------- parts


def _cosine_lines(name: str, found: Measured, objectives: Sequence[str]) -> Iterator[Line]:
    places = [*found.groups, WHOLE]
    for size, gramians in found.gramians.items():
        values = masked_cosines(gramians, found.rest_share)
        for index, objective in enumerate(objectives):
            lengths = norms(gramians[:, -1])[:, index].tolist()
            yield _line(name, "gradient norm", objective, "", WHOLE, size, lengths)
        rates = []
        for batch in values[:, -1]:
            known = [c for i, j in pairs([*objectives]) for c in _finite(batch[i, j])]
            rates += [_mean([float(v < 0) for v in known])] if known else []
        yield _line(name, "share of conflicting pairs", "", "", WHOLE, size, rates)
        for i, j in pairs([*objectives]):
            first, second = objectives[i], objectives[j]
            for place, column in zip(places, values.unbind(1), strict=True):
                known = _finite(column[:, i, j])
                yield _line(name, "cosine", first, second, place, size, known)
                share = [float(value < 0) for value in known]
                yield _line(name, "share of batches in conflict", first, second, place, size, share)


def _transfer_lines(name: str, found: Measured, objectives: Sequence[str]) -> Iterator[Line]:
    if found.transfer is None or found.expected is None:
        return
    size = max(found.gramians)
    kinds = {"loss change": found.transfer, "loss change, first order": found.expected}
    still = resting(found, objectives)
    for i, first in enumerate(objectives):
        for j, second in enumerate(objectives):
            for figure, values in kinds.items():
                known = [] if first in still else _finite(values[:, i, j])
                yield _line(name, figure, first, second, "", size, known)
    yield from _gain_lines(name, size, found.transfer, objectives, still)


def _gain_lines(
    name: str, size: int, changes: Tensor, objectives: Sequence[str], still: Sequence[str]
) -> Iterator[Line]:
    """The shared gain of the mean changes: a mean of ratios would be that of the smallest gain.

    Args:
        name: The representation.
        size: Answer tokens of each objective in a batch.
        changes: ``[K, M, M]``, see `transfer_matrix`.
        objectives: Their names.
        still: Those at rest, which have none.
    """
    batches, count = len(changes), len(objectives)
    table = changes.double().reshape(batches, -1).numpy().T
    table = table[:, np.lexsort(table)]
    drawn = torch.from_numpy(resampled_means(table, np.random.default_rng(0), RESAMPLES).T)
    gains = shared_gain(drawn.reshape(-1, count, count))
    values = shared_gain(changes.double().mean(dim=0))
    for i, first in enumerate(objectives):
        for j, second in enumerate(objectives):
            line = Line(name, "shared gain", first, second, "", size, math.nan)
            if first not in still and second not in still:
                line = line._replace(value=float(values[i, j]), samples=batches)
                if batches > 1 and gains[:, i, j].isfinite().all():
                    low, high = _ends(gains[:, i, j].numpy(), batches)
                    line = line._replace(low=low, high=high)
            yield line


def _gap_lines(name: str, found: Measured, objectives: Sequence[str]) -> Iterator[Line]:
    size = max(found.gramians)
    for i, j in pairs([*objectives]):
        first, second = objectives[i], objectives[j]
        one, two = found.states[first], found.states[second]
        count = min(one.shape[1], two.shape[1])
        if count < 2:
            continue
        for layer, (a, b) in enumerate(zip(one, two, strict=True)):
            gap = mmd(a, b)
            values = {
                "MMD^2": gap.squared,
                "MMD p-value": gap.p_value,
                "proxy A-distance": proxy_a_distance(a, b),
                "covariance CKA": covariance_cka(a, b),
            }
            for figure, value in values.items():
                place = f"block.{layer:02d}"
                yield Line(name, figure, first, second, place, size, value, samples=count)
        texts = found.tokens[first], found.tokens[second]
        if all(any(rows) for rows in texts):
            divergence = token_divergence(*texts)
            for figure, value in (
                ("token divergence", divergence.bits),
                ("token divergence by chance", divergence.by_chance),
                ("token divergence p-value", divergence.p_value),
            ):
                yield Line(name, figure, first, second, "", size, value, samples=count)


def expanded(count: int) -> float:
    """The share of resampled means that a 95 % interval has to hold with so few values.

    Percentiles of a bootstrap are too narrow for few values, by a factor of sqrt((n - 1) / n) and
    the difference between Student's distribution and the normal one. Taken further out they make
    up for it, down to about five values; of two or three they end at the values themselves
    (Hesterberg 2015, doi 10.1080/00031305.2015.1089789, section 3.2, "expanded percentile").

    Args:
        count: At least 2.
    """
    further = math.sqrt(count / (count - 1)) * stats.t.ppf((1 + LEVEL) / 2, count - 1)
    return float(2 * stats.norm.cdf(further) - 1)


def _ends(drawn: NDArray[np.float64], count: int) -> tuple[float, float]:
    outside = (1 - expanded(count)) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def _line(
    name: str,
    figure: str,
    first: str,
    second: str,
    where: str,
    tokens: int,
    values: Sequence[float],
) -> Line:
    """The mean of one value per batch, with its interval."""
    low = high = math.nan
    if len(values) > 1:
        low, high = bootstrap_mean(values, level=expanded(len(values)))
    mean = _mean(values)
    return Line(name, figure, first, second, where, tokens, mean, low, high, len(values))


def _finite(values: Tensor) -> list[float]:
    flat: list[float] = values.flatten().tolist()
    return [value for value in flat if math.isfinite(value)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Bootstrap interval of the difference of two means, each side drawn anew by itself."""
    if min(len(first), len(second)) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    one, two = (
        resampled_means(np.asarray([sorted(side)]), rng, RESAMPLES)[0] for side in (first, second)
    )
    return _ends(two - one, min(len(first), len(second)))
