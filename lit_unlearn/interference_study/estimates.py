"""Estimates with intervals from the measurements of one or two representations."""

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
from lit_unlearn.interference_study.measure import Measurement
from lit_unlearn.log_names import pairs
from lit_unlearn.metrics.functional.domain_gap import covariance_cka, mmd, proxy_a_distance
from lit_unlearn.metrics.functional.resampling import resampled_means
from lit_unlearn.metrics.functional.statistics import LEVEL, RESAMPLES, bootstrap_mean, mean
from lit_unlearn.metrics.functional.token_divergence import token_divergence

__all__ = ["WHOLE", "Estimate", "differences", "estimates", "expanded", "masked_cosines", "resting"]

WHOLE = "whole"
"""Name of the layer group that is the whole model."""


class Estimate(NamedTuple):
    """One figure with its interval."""

    representation: str
    figure: str
    first: str
    """Objective; for transfer, the one for which the step is taken."""
    second: str
    where: str
    """Layer group or decoder block; empty if the figure has none."""
    tokens: int
    """Answer tokens of each objective in a batch."""
    value: float
    low: float = math.nan
    """Lower end of a 95 % interval: bootstrap over batches, see `expanded`."""
    high: float = math.nan
    samples: int = 0
    """Number of batches, or of rows of the smaller domain."""


def estimates(name: str, found: Measurement, objectives: Sequence[str]) -> list[Estimate]:
    """Return all figures of one representation; objectives are in the order of the gradients."""
    parts = (_cosines, _transfer, _gaps)
    return [each for part in parts for each in part(name, found, objectives)]


def masked_cosines(gramians: Tensor, share: float) -> Tensor:
    """Return the cosines of Gramians, both ``[K, G + 1, M, M]``, the whole model last.

    They are NaN for objectives whose gradient is at rest, below `share` of the largest norm (see
    `at_rest`).
    """
    return cosines(without(gramians, at_rest(gramians[:, -1], share)[:, None]))


def resting(found: Measurement, objectives: Sequence[str]) -> list[str]:
    """Return the objectives whose gradient was at rest in some batch."""
    still = torch.zeros(len(objectives), dtype=torch.bool)
    for gramians in found.gramians.values():
        own = masked_cosines(gramians, found.rest_share)[:, -1].diagonal(dim1=-2, dim2=-1)
        still |= own.isnan().any(0)
    return [name for name, rests in zip(objectives, still.tolist(), strict=True) if rests]


def differences(measured: Mapping[str, Measurement], objectives: Sequence[str]) -> list[Estimate]:
    """Return the whole model's cosines in the second of two representations minus the first.

    Only the largest batches are used; objectives are in the order of the gradients.
    """
    (first, one), (second, two) = measured.items()
    size = max(one.gramians)
    sides = [masked_cosines(m.gramians[size], m.rest_share)[:, -1] for m in (one, two)]
    found = []
    for i, j in pairs([*objectives]):
        before, after = (_finite(side[:, i, j]) for side in sides)
        value, count = mean(after) - mean(before), min(len(before), len(after))
        low = high = math.nan
        if count > 1:  # the two sides are resampled separately
            rng = np.random.default_rng(0)
            drawn = [
                resampled_means(np.array([sorted(s)]), rng, RESAMPLES)[0] for s in (before, after)
            ]
            low, high = _interval(drawn[1] - drawn[0], count)
        key = f"{second} - {first}", "cosine difference", objectives[i], objectives[j], WHOLE
        found.append(Estimate(*key, size, value, low, high, count))
    return found


def _cosines(name: str, found: Measurement, objectives: Sequence[str]) -> Iterator[Estimate]:
    for size, gramians in found.gramians.items():
        values = masked_cosines(gramians, found.rest_share)
        lengths = norms(gramians[:, -1])
        for index, objective in enumerate(objectives):
            own = lengths[:, index].tolist()
            yield _over_batches(own, name, "gradient norm", objective, "", WHOLE, size)
        rates = []
        for batch in values[:, -1]:
            known = [c for i, j in pairs([*objectives]) for c in _finite(batch[i, j])]
            rates += [mean([float(v < 0) for v in known])] if known else []
        yield _over_batches(rates, name, "share of conflicting pairs", "", "", WHOLE, size)
        for i, j in pairs([*objectives]):
            for where, column in zip([*found.groups, WHOLE], values.unbind(1), strict=True):
                key = objectives[i], objectives[j], where, size
                known = _finite(column[:, i, j])
                yield _over_batches(known, name, "cosine", *key)
                share = [float(value < 0) for value in known]
                yield _over_batches(share, name, "share of batches in conflict", *key)


def _transfer(name: str, found: Measurement, objectives: Sequence[str]) -> Iterator[Estimate]:
    if not found.transfer:
        return
    size, still = max(found.gramians), resting(found, objectives)
    changes = torch.stack(found.transfer)
    kinds = {"loss change": changes, "loss change, first order": torch.stack(found.expected)}
    for i, first in enumerate(objectives):
        for j, second in enumerate(objectives):
            for figure, values in kinds.items():
                known = [] if first in still else _finite(values[:, i, j])
                yield _over_batches(known, name, figure, first, second, "", size)
    yield from _gains(name, size, changes, objectives, still)


def _gains(
    name: str, size: int, changes: Tensor, objectives: Sequence[str], still: Sequence[str]
) -> Iterator[Estimate]:
    """Yield the shared gains of the mean changes; a mean of ratios depends on the smallest gain.

    `changes` are ``[K, M, M]``, see `transfer_matrix`; objectives at rest (`still`) have no gain.
    """
    batches, count = len(changes), len(objectives)
    table = changes.double().reshape(batches, -1).numpy().T
    table = table[:, np.lexsort(table)]
    drawn = torch.from_numpy(resampled_means(table, np.random.default_rng(0), RESAMPLES).T)
    gains = shared_gain(drawn.reshape(-1, count, count))
    values = shared_gain(changes.double().mean(dim=0))
    for i, first in enumerate(objectives):
        for j, second in enumerate(objectives):
            line = Estimate(name, "shared gain", first, second, "", size, math.nan)
            if first not in still and second not in still:
                line = line._replace(value=float(values[i, j]), samples=batches)
                if batches > 1 and gains[:, i, j].isfinite().all():
                    low, high = _interval(gains[:, i, j].numpy(), batches)
                    line = line._replace(low=low, high=high)
            yield line


def _gaps(name: str, found: Measurement, objectives: Sequence[str]) -> Iterator[Estimate]:
    size = max(found.gramians)
    for i, j in pairs([*objectives]):
        first, second = objectives[i], objectives[j]
        one, two = found.states[first], found.states[second]
        count = min(one.shape[1], two.shape[1])
        if count < 2:
            continue
        values: dict[tuple[str, str], float] = {}
        for layer, (a, b) in enumerate(zip(one, two, strict=True)):
            where, gap = f"block.{layer:02d}", mmd(a, b)
            values["MMD^2", where] = gap.squared
            values["MMD p-value", where] = gap.p_value
            values["proxy A-distance", where] = proxy_a_distance(a, b)
            values["covariance CKA", where] = covariance_cka(a, b)
        texts = found.tokens[first], found.tokens[second]
        if all(any(rows) for rows in texts):
            divergence = token_divergence(*texts)
            values["token divergence", ""] = divergence.bits
            values["token divergence by chance", ""] = divergence.by_chance
            values["token divergence p-value", ""] = divergence.p_value
        for (figure, where), value in values.items():
            yield Estimate(name, figure, first, second, where, size, value, samples=count)


def expanded(count: int) -> float:
    """Return the share of resampled means inside a 95 % interval of few values.

    Percentiles of a bootstrap are too narrow for few values, by a factor of sqrt((n - 1) / n) and
    the difference between Student's distribution and the normal one. Wider percentiles correct that
    for about five values or more; with two or three they are limited by the values themselves
    (Hesterberg 2015, doi 10.1080/00031305.2015.1089789, section 3.2, "expanded percentile").

    Args:
        count: Number of values, at least 2.
    """
    further = math.sqrt(count / (count - 1)) * stats.t.ppf((1 + LEVEL) / 2, count - 1)
    return float(2 * stats.norm.cdf(further) - 1)


def _interval(drawn: NDArray[np.float64], count: int) -> tuple[float, float]:
    outside = (1 - expanded(count)) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def _over_batches(values: Sequence[float], *key: *tuple[str, str, str, str, str, int]) -> Estimate:
    """Return the mean of one value per batch, with its interval; the key is an `Estimate`'s."""
    low = high = math.nan
    if len(values) > 1:
        low, high = bootstrap_mean(values, level=expanded(len(values)))
    return Estimate(*key, mean(values), low, high, len(values))


def _finite(values: Tensor) -> list[float]:
    flat: list[float] = values.flatten().tolist()
    return [value for value in flat if math.isfinite(value)]
