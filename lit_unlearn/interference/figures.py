"""From what was measured to figures with intervals: one line per figure, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_unlearn.gradients.diagnostics import at_rest, cosines, norms, without
from lit_unlearn.gradients.transfer import shared_gain
from lit_unlearn.interference.measure import Measured
from lit_unlearn.metrics.domain_gap import covariance_cka, mmd, proxy_a_distance, token_divergence
from lit_unlearn.metrics.resampling import resampled_means
from lit_unlearn.metrics.statistics import LEVEL, RESAMPLES, bootstrap_mean
from lit_unlearn.schema import pairs

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
    """Ends of a 95 % interval: bootstrap over batches."""
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


def masked_cosines(gramians: Tensor) -> Tensor:
    """``[K, G + 1, M, M]`` cosines; NaN for objectives whose gradient is at rest.

    Args:
        gramians: ``[K, G + 1, M, M]``, the whole model last.
    """
    return cosines(without(gramians, at_rest(gramians[:, -1])[:, None]))


def resting(found: Measured, objectives: Sequence[str]) -> list[str]:
    """Objectives whose gradient was at rest in some batch."""
    still = torch.zeros(len(objectives), dtype=torch.bool)
    for gramians in found.gramians.values():
        still |= masked_cosines(gramians)[:, -1].diagonal(dim1=-2, dim2=-1).isnan().any(0)
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
    values = [masked_cosines(measured[name].gramians[size])[:, -1] for name in (one, two)]
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
        values = masked_cosines(gramians)
        for index, objective in enumerate(objectives):
            lengths = norms(gramians[:, -1])[:, index].tolist()
            yield _line(name, "gradient norm", objective, "", WHOLE, size, lengths)
        rates = []
        for batch in values[:, -1]:
            known = _finite(torch.stack([batch[i, j] for i, j in pairs([*objectives])] or [batch]))
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
    kinds = {
        "loss change": found.transfer,
        "loss change, first order": found.expected,
        "shared gain": shared_gain(found.transfer),
    }
    at_rest = resting(found, objectives)
    for figure, values in kinds.items():
        for i, first in enumerate(objectives):
            for j, second in enumerate(objectives):
                rests = first in at_rest or (second in at_rest and figure == "shared gain")
                known = [] if rests else _finite(values[:, i, j])
                yield _line(name, figure, first, second, "", size, known)


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
    low, high = bootstrap_mean(values) if len(values) > 1 else (math.nan, math.nan)
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
    low, high = np.quantile(two - one, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
