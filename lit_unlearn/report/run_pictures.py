"""Figures of a run, by matplotlib alone (no pyplot, so no global state and no display needed).

`style` holds colours and frame. Gradient records are those of `read_gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from lit_unlearn.errors import InputError
from lit_unlearn.log_names import pairs
from lit_unlearn.report.run_records import Change, ObjectiveSummary, changes
from lit_unlearn.report.style import (
    BEFORE_COLOUR,
    COLOURS,
    INK,
    STYLE,
    STYLES,
    bare,
    canvas,
)

_SMOOTHED_FROM = 40  # more points than this: faint raw curve, bold running mean
_LABELLED_CELLS = 60  # a heat map with at most as many cells shows the numbers
_LIMITS = (0.1, 0.25, 0.5, 1.0)

Record = dict[str, Any]


def cosine_figure(records: Sequence[Record]) -> Figure:
    """Cosine of each pair of objectives' gradients over the steps; below zero they conflict.

    Raises:
        InputError: There is no record.
    """
    names = _objectives(records)
    if len(names) < 2:
        return _no_pairs()
    steps = _column(records, "step")
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(8.0, 3.6)
        axes.axhline(0.0, color=INK, linewidth=1.0)
        axes.set_ylim(-1.05, 1.05)
        cosines = _column(records, "cosines")
        for index, (i, j) in enumerate(pairs(names)):
            _curve(axes, steps, cosines[:, i, j], index, f"{names[i]} ~ {names[j]}")
        _finish(axes, "cosine of gradients", "agree above 0, conflict below")
    return figure


def norm_figure(records: Sequence[Record]) -> Figure:
    """2-norm of each objective's gradient over the steps, on a logarithmic axis.

    Raises:
        InputError: There is no record.
    """
    names = _objectives(records)
    steps, norms = _column(records, "step"), _column(records, "norms")
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(8.0, 3.2)
        for index, name in enumerate(names):
            _curve(axes, steps, np.where(norms[:, index] > 0, norms[:, index], np.nan), index, name)
        if np.any(norms > 0):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_PlainLog())
            axes.yaxis.set_minor_formatter(_PlainLog(minor_thresholds=(1.5, 0.5)))
        _finish(axes, "gradient norm", "2-norm, unweighted losses")
    return figure


def loss_figure(records: Sequence[Record]) -> Figure:
    """Each objective's unweighted loss over the steps; one panel each, since units differ.

    Raises:
        InputError: There is no record.
    """
    names = _objectives(records)
    steps, losses = _column(records, "step"), _column(records, "losses")
    columns = min(2, len(names))
    lines = math.ceil(len(names) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 0.4 + 2.0 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        for index, (axes, name) in enumerate(zip(panels, names, strict=False)):
            bare(axes)
            _curve(axes, steps, losses[:, index], index, name)
            axes.set_title(f"loss/{name}")
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        for axes in panels[len(names) :]:
            axes.set_visible(False)
    return figure


def heatmap_figure(records: Sequence[Record], step: int | None = None) -> Figure:
    """Cosines per layer group (across) and pair of objectives (down); blue agrees, red conflicts.

    Args:
        records: Diagnosed steps, all with the same objectives and groups.
        step: Which step to show; None for the mean over all of them.

    Raises:
        InputError: There is no record, or none of that step.
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
    labels = [f"{names[i]} ~ {names[j]}" for i, j in pairs(names)]
    title = f"mean of {len(chosen)} diagnosed steps" if step is None else f"step {step}"
    return _heatmap(table, labels, list(records[0]["groups"]), title)


def _heatmap(
    table: NDArray[np.float64], pair_names: list[str], groups: list[str], title: str
) -> Figure:
    largest = float(np.nanmax(np.abs(table))) if np.isfinite(table).any() else 1.0
    limit = next((bound for bound in _LIMITS if largest <= bound), 1.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(max(6.0, 2.8 + 0.27 * len(groups)), 1.9 + 0.36 * len(pair_names)),
            layout="constrained",
        )
        axes = figure.subplots()
        axes.set_facecolor(BEFORE_COLOUR)  # shows where a cosine is undefined
        image = axes.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_yticks(range(len(pair_names)), pair_names)
        axes.set_xticks(range(len(groups)), groups, rotation=90)
        axes.tick_params(length=0)
        axes.set_title(f"cosine of gradients per layer group, {title}")
        if table.size <= _LABELLED_CELLS:
            for (row, column), value in np.ndenumerate(table):
                ink = "white" if abs(value) > 0.6 * limit else "black"
                text = "n/a" if math.isnan(value) else f"{value:z.2f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
        bar = figure.colorbar(image, ax=axes, pad=0.01, ticks=(-limit, 0.0, limit))
        bar.ax.set_yticklabels([f"\u2212{limit:g} conflict", "0", f"+{limit:g} agree"])
        bar.outline.set_visible(False)
    return figure


def rates_figure(before: Sequence[ObjectiveSummary], after: Sequence[ObjectiveSummary]) -> Figure:
    """Correct answers and refusals before (grey) and after (coloured), as shares of the rows.

    Raises:
        InputError: There is no summary.
    """
    both = changes(before, after)
    if not both:
        raise InputError("before, after: expected at least one objective's summary, found none")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 1.1 + 0.5 * len(both)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, key, title in zip(
            panels, ("correct_rate", "refusal_rate"), ("correct answers", "refusals"), strict=True
        ):
            _bars(axes, both, key)
            axes.set_title(title)
        panels[0].set_yticks(range(len(both)), [change.label for change in both])
        panels[0].invert_yaxis()
        handles = panels[0].containers
        figure.legend(handles[:2], ("before", "after"), loc="outside lower center", ncols=2)
    return figure


def _bars(axes: Axes, both: Sequence[Change], key: str) -> None:
    """Two bars per objective, each with its value at the end."""
    bare(axes)
    axes.set_xlim(0, 118)
    axes.set_xticks((0, 50, 100), ("0 %", "50 %", "100 %"))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    for offset, moment, colour in ((-0.2, "before", BEFORE_COLOUR), (0.2, "after", COLOURS[0])):
        values = [_rate(getattr(change, moment), key) for change in both]
        places = [index + offset for index in range(len(both))]
        axes.barh(places, np.nan_to_num(values), height=0.38, color=colour)
        for place, value in zip(places, values, strict=True):
            text = "not scored" if math.isnan(value) else f"{value:.0f} %"
            axes.text(np.nan_to_num(value) + 1.5, place, text, va="center", color=INK, fontsize=8)


def _rate(summary: ObjectiveSummary | None, key: str) -> float:
    """In percent; NaN where it was not measured."""
    value = None if summary is None else getattr(summary, key)
    return math.nan if value is None else 100.0 * value


# ------------------------------------------------------------------------------------- helpers


def _no_pairs() -> Figure:
    """What stands in place of cosines in a run with one objective."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(8.0, 1.0)
        axes.set_axis_off()
        axes.text(0.5, 0.5, "one objective: there is no pair to compare", ha="center", va="center")
    return figure


class _PlainLog(LogFormatter):
    """Marks of a logarithmic axis written as plain numbers."""

    def _num_to_string(self, v: float, vmin: float, vmax: float) -> str:
        return f"{v:g}"


def _finish(axes: Axes, label: str, title: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.figure.legend(loc="outside right upper")


def _curve(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], index: int, label: str
) -> None:
    """One line; with many points a faint line and its running mean."""
    colour = COLOURS[index % len(COLOURS)]
    style = STYLES[index // len(COLOURS) % len(STYLES)]
    marker = "o" if len(steps) <= _SMOOTHED_FROM else ""
    if len(steps) > _SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        values = _running_mean(values, len(values) // 20)
    axes.plot(
        steps, values, style, color=colour, linewidth=1.8, marker=marker, markersize=3, label=label
    )


def _running_mean(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Mean over ``reach`` points on either side, NaN left out."""
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return np.array([w[np.isfinite(w)].mean() if np.isfinite(w).any() else np.nan for w in windows])


def _nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis without NaN; NaN (and no warning) where all are."""
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
