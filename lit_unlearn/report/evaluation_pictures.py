"""Pictures of evaluations: bars with intervals, relearning, the parts of the balanced score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.report.evaluation_table import DIRECTIONS, Line, number
from lit_unlearn.report.style import COLOURS, GRID, INK, STYLE, STYLES, bare, canvas

_HATCHES = ("", "////", "....", "xxxx")
"""Tell bars of columns beyond the last colour apart."""


def suite_picture(headings: Sequence[str], lines: Sequence[Line]) -> Picture:
    """Bars with 95 % intervals, one per column of a figure; one panel per unit.

    Args:
        headings: Of the columns.
        lines: The figures of one suite.

    Raises:
        InputError: No line holds a number.
    """
    drawn = [line for line in lines if any(_finite(cell) for cell in line.cells)]
    if not drawn:
        raise InputError("lines: expected at least one figure with a value, found none")
    units = list(dict.fromkeys(line.figure.unit for line in drawn))
    panels = [[line for line in drawn if line.figure.unit == unit] for unit in units]
    heights = [len(panel) * (0.12 + 0.2 * len(headings)) + 0.5 for panel in panels]
    with matplotlib.rc_context(STYLE):
        picture = Picture(figsize=(8.0, 0.6 + sum(heights)), layout="constrained")
        axes = picture.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, members, unit in zip(axes, panels, units, strict=True):
            _bars(panel, members, len(headings))
            panel.set_title(unit)
        handles = axes[0].containers[-len(headings) :] if len(headings) > 1 else []
        if len(headings) > 1:
            picture.legend(handles, headings, loc="outside lower center", ncols=3)
    return picture


def _bars(axes: Axes, lines: Sequence[Line], columns: int) -> None:
    """The bars of one unit, the columns of a line below each other."""
    bare(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    height = 0.8 / columns
    for column in range(columns):
        cells = [line.cells[column] for line in lines]
        values = [cell.value if cell is not None and _finite(cell) else math.nan for cell in cells]
        places = [row + (column - (columns - 1) / 2) * height for row in range(len(lines))]
        axes.barh(
            places,
            np.nan_to_num(values),
            height=0.9 * height,
            color=COLOURS[column % len(COLOURS)],
            hatch=_HATCHES[column // len(COLOURS) % len(_HATCHES)],
        )
        for place, cell in zip(places, cells, strict=True):
            _interval(axes, place, cell)
    axes.set_yticks(
        range(len(lines)), [f"{line.name} {DIRECTIONS[line.figure.better]}" for line in lines]
    )
    axes.invert_yaxis()
    axes.margins(x=0.12)


def _interval(axes: Axes, place: float, cell: Figure | None) -> None:
    """The 95 % interval as a line over the bar, and the value behind it."""
    if cell is None or not _finite(cell):
        axes.text(0.0, place, " not measured", va="center", color=INK, fontsize=8)
        return
    end = cell.value
    if cell.low is not None and cell.high is not None:
        axes.plot([cell.low, cell.high], [place, place], color=INK, linewidth=1.2)
        end = max(end, cell.high)
    axes.text(max(end, 0.0), place, f" {number(cell.value)}", va="center", color=INK, fontsize=8)


def recovery_picture(
    curves: Mapping[str, Sequence[tuple[float, Figure]]], label: str, unit: str
) -> Picture:
    """A figure over the amount of relearning, with its 95 % interval as a band.

    Args:
        curves: Heading -> points: optimizer steps of relearning, and the figure there.
        label: What the figure is.
        unit: Its unit, in words.

    Raises:
        InputError: There is no point.
    """
    if not any(curves.values()):
        raise InputError("curves: expected at least one point of relearning, found none")
    with matplotlib.rc_context(STYLE):
        picture, axes = canvas(8.0, 3.4)
        for index, (heading, points) in enumerate(curves.items()):
            colour, style = COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]
            ordered = sorted(points, key=lambda point: point[0])
            steps = [step for step, _ in ordered]
            figures = [figure for _, figure in ordered]
            values = [figure.value for figure in figures]
            axes.plot(steps, values, style, color=colour, marker="o", markersize=4, label=heading)
            low = [figure.value if figure.low is None else figure.low for figure in figures]
            high = [figure.value if figure.high is None else figure.high for figure in figures]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("optimizer steps of relearning")
        axes.set_ylabel(label)
        axes.set_title(unit)
        picture.legend(loc="outside lower center", ncols=3)
    return picture


def balance_picture(parts: Mapping[str, Mapping[str, float]]) -> Picture:
    """The parts of the balanced score as a radar picture, 0 in the middle and 1 at the rim.

    Args:
        parts: Heading -> part -> value from 0 to 1; a part that is NaN or missing is a gap.

    Raises:
        InputError: There are fewer than three parts, which span no area.
    """
    names = list(dict.fromkeys(name for column in parts.values() for name in column))
    if len(names) < 3:
        raise InputError(f"parts: expected at least three for a radar picture, found {names}")
    angles = [2 * math.pi * index / len(names) for index in range(len(names))]
    with matplotlib.rc_context(STYLE):
        picture = Picture(figsize=(6.0, 5.0), layout="constrained")
        axes = picture.add_subplot(projection="polar")
        axes.set_facecolor("none")
        for index, (heading, column) in enumerate(parts.items()):
            colour, style = COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]
            values = [column.get(name, math.nan) for name in names]
            closed = [*values, values[0]]
            axes.plot([*angles, angles[0]], closed, style, color=colour, label=heading)
            axes.fill([*angles, angles[0]], closed, color=colour, alpha=0.08)
        axes.set_ylim(0, 1)
        axes.set_yticks((0.25, 0.5, 0.75, 1.0), ("", "0.5", "", "1"))
        axes.set_xticks(angles, names)
        axes.tick_params(axis="x", pad=20)  # clear of the rim
        axes.grid(color=GRID, alpha=0.4)
        picture.legend(loc="outside lower center", ncols=2)
    return picture


def _finite(figure: Figure | None) -> bool:
    return figure is not None and math.isfinite(figure.value)
