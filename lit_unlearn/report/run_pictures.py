"""Figures of a run, without pyplot and therefore without global state or a display.

Gradient records come from `read_gradients`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from lit_unlearn.errors import InputError
from lit_unlearn.log_names import pairs
from lit_unlearn.report.drawing import curve, heat_map, legend, scale
from lit_unlearn.report.style import COLOURS, INK, canvas, panels, styled

__all__ = ["Record", "cosine_figure", "heatmap_figure", "layers_figure", "loss_figure"]
__all__ += ["norm_figure"]

_SMOOTHED_FROM = 40  # more points than this: faint raw curve, bold running mean
_LABELLED_CELLS = 60  # a heat map with at most as many cells shows the numbers
_LIMITS = (0.1, 0.25, 0.5, 1.0)
_PANELS = 12  # most pairs in one picture of layers over steps

Record = dict[str, Any]


@styled
def cosine_figure(records: Sequence[Record]) -> Figure:
    """Draw the cosine of each pair of objectives' gradients; below zero they conflict."""
    names = _objectives(records)
    if len(names) < 2:
        return _no_pairs()
    figure, axes = canvas(8.0, 3.6)
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.set_ylim(-1.05, 1.05)
    steps, cosines = _column(records, "step"), _column(records, "cosines")
    for index, (i, j) in enumerate(pairs(names)):
        _curve(axes, steps, cosines[:, i, j], index, f"{names[i]} ~ {names[j]}")
    _finish(axes, "cosine of gradients", "agree above 0, conflict below")
    legend(figure, axes)
    return figure


@styled
def norm_figure(records: Sequence[Record]) -> Figure:
    """Draw the 2-norm of each objective's gradient over the steps, on a logarithmic axis."""
    names = _objectives(records)
    steps, norms = _column(records, "step"), _column(records, "norms")
    figure, axes = canvas(8.0, 3.2)
    for index, name in enumerate(names):
        _curve(axes, steps, np.where(norms[:, index] > 0, norms[:, index], np.nan), index, name)
    if np.any(norms > 0):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PlainLog())
        axes.yaxis.set_minor_formatter(_PlainLog(minor_thresholds=(1.5, 0.5)))
    _finish(axes, "gradient norm", "2-norm, unweighted losses")
    legend(figure, axes)
    return figure


@styled
def loss_figure(records: Sequence[Record]) -> Figure:
    """Draw each objective's unweighted loss over the steps; one panel each, since units differ."""
    names = _objectives(records)
    steps, losses = _column(records, "step"), _column(records, "losses")
    columns = min(2, len(names))
    height = 0.4 + 2.0 * math.ceil(len(names) / columns)
    figure, grid = panels(len(names), columns, 8.0, height)
    for index, (axes, name) in enumerate(zip(grid, names, strict=True)):
        _curve(axes, steps, losses[:, index], index, name)
        _finish(axes, "", f"loss/{name}", marks=6)
    return figure


@styled
def heatmap_figure(records: Sequence[Record], step: int | None = None) -> Figure:
    """Draw cosines per layer group (across) and pair of objectives (down).

    All records have the same objectives and groups; without `step`, cells are means over all steps.
    """
    names = _objectives(records)
    chosen = [r for r in records if step is None or r["step"] == step]
    if not chosen:
        known = ", ".join(str(r["step"]) for r in records)
        raise InputError(f"step: expected a diagnosed step ({known}), found {step}; choose another")
    if len(names) < 2:
        return _no_pairs()
    cosines = _nan_mean(_column(chosen, "group_cosines"))
    table = np.array([cosines[:, i, j] for i, j in pairs(names)])
    limit = _limit(table)
    labels, groups = [f"{names[i]} ~ {names[j]}" for i, j in pairs(names)], records[0]["groups"]
    width, height = max(6.0, 2.8 + 0.27 * len(groups)), 1.9 + 0.36 * len(labels)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    image = heat_map(axes, table, limit, numbers=table.size <= _LABELLED_CELLS, aspect="auto")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xticks(range(len(groups)), groups, rotation=90)
    shown = f"mean of {len(chosen)} diagnosed steps" if step is None else f"step {step}"
    axes.set_title(f"cosine of gradients per layer group, {shown}")
    scale(figure, image, [axes], pad=0.01)
    return figure


@styled
def layers_figure(records: Sequence[Record]) -> Figure:
    """Draw cosines per layer group (down) over the steps (across), one panel for each pair.

    Of more than twelve pairs it shows those with the lowest means. All records have the same
    objectives and groups.
    """
    names = _objectives(records)
    if len(names) < 2:
        return _no_pairs()
    groups, steps = records[0]["groups"], [record["step"] for record in records]
    means = _nan_mean(_column(records, "cosines"))
    couples = list(pairs(names))
    lowest = sorted(couples, key=lambda pair: np.nan_to_num(means[pair], nan=np.inf))[:_PANELS]
    cosines = _column(records, "group_cosines")
    limit = _limit(cosines[:, :, *np.array(lowest).T])
    columns = min(3, len(lowest))
    height = math.ceil(len(lowest) / columns) * (0.9 + 0.08 * max(8, len(groups)))
    figure, grid = panels(len(lowest), columns, 2.0 + 2.6 * columns, height, sharey=True)
    for axes, (i, j) in zip(grid, [pair for pair in couples if pair in lowest], strict=True):
        table = cosines[:, :, i, j].T
        image = heat_map(axes, table, limit, numbers=False, aspect="auto")
        axes.grid(visible=False)
        axes.set_title(f"{names[i]} ~ {names[j]}")
        axes.set_xticks(marks := _spread(steps, 5), [steps[mark] for mark in marks])
        axes.set_yticks(marks := _spread(groups, 12), [groups[mark] for mark in marks])
    figure.supxlabel("step", fontsize="medium")
    scale(figure, image, grid, pad=0.01, aspect=6 * height)
    return figure


def _spread(values: Sequence[object], most: int) -> list[int]:
    """Return the places of at most so many values, spread evenly."""
    return list(range(0, len(values), math.ceil(len(values) / most)))


def _limit(cosines: NDArray[np.float64]) -> float:
    """Return the cosine with the darkest colour: a round number above all that are defined."""
    largest = float(np.nanmax(np.abs(cosines))) if np.isfinite(cosines).any() else 1.0
    return next((bound for bound in _LIMITS if largest <= bound), 1.0)


def _no_pairs() -> Figure:
    """Return the figure in place of cosines for a run with one objective."""
    figure, axes = canvas(8.0, 1.0)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "one objective: there is no pair to compare", ha="center", va="center")
    return figure


class _PlainLog(LogFormatter):
    """Formatter that writes the marks of a logarithmic axis as plain numbers."""

    def _num_to_string(self, v: float, vmin: float, vmax: float) -> str:
        return f"{v:g}"


def _finish(axes: Axes, label: str, title: str, marks: int = 10) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=marks))


def _curve(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], index: int, label: str
) -> None:
    """Draw one line; with many points a faint line and its running mean."""
    if len(steps) <= _SMOOTHED_FROM:
        curve(axes, steps, values, index, label)
        return
    axes.plot(steps, values, color=COLOURS[index % len(COLOURS)], alpha=0.25, linewidth=0.8)
    reach = len(values) // 20  # points on either side
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    means = np.array([_nan_mean(window) for window in windows])
    curve(axes, steps, means, index, label, marker="")


def _nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis without NaN; NaN, without a warning, if all are NaN."""
    counts = np.isfinite(values).sum(axis=0)
    totals = np.nansum(values, axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _column(records: Sequence[Record], key: str) -> NDArray[np.float64]:
    return np.array([record[key] for record in records], dtype=np.float64)


def _objectives(records: Sequence[Record]) -> list[str]:
    if not records:
        raise InputError(
            "records: expected at least one diagnosed step, found none; let the gradient monitor "
            "diagnose more often, or train for longer"
        )
    return list(records[0]["objectives"])
