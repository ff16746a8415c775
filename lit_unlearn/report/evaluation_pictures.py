"""Pictures of evaluations: bars with intervals, relearning curves, parts of the balanced score."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.report.drawing import band, bars, curve, legend, note
from lit_unlearn.report.evaluation_table import DIRECTIONS, Line, number
from lit_unlearn.report.style import COLOURS, GRID, INK, STYLES, canvas, panels, styled

__all__ = ["Picture", "balance_picture", "has_value", "recovery_picture", "suite_picture"]

Picture = matplotlib.figure.Figure
_HATCHES = ("", "////", "....", "xxxx")
"""Hatches of bars; the next one is used when all colours are used."""


@styled
def suite_picture(headings: Sequence[str], lines: Sequence[Line]) -> Picture:
    """Draw bars with 95 % intervals, one per column of a figure; one panel per unit.

    Raises:
        InputError: No line has a value.
    """
    drawn = [line for line in lines if any(has_value(cell) for cell in line.cells)]
    if not drawn:
        raise InputError("lines: expected at least one figure with a value, found none")
    units = list(dict.fromkeys(line.figure.unit for line in drawn))
    parts = [[line for line in drawn if line.figure.unit == unit] for unit in units]
    heights = [len(part) * (0.12 + 0.2 * len(headings)) + 0.5 for part in parts]
    picture, grid = panels(len(units), 1, 8.0, 0.6 + sum(heights), height_ratios=heights)
    for axes, members, unit in zip(grid, parts, units, strict=True):
        _bars(axes, members, headings)
        axes.set_title(unit)
    if len(headings) > 1:
        legend(picture, grid[0], columns=3)
    return picture


def _bars(axes: Axes, lines: Sequence[Line], headings: Sequence[str]) -> None:
    looks = []
    for column, heading in enumerate(headings):
        hatch = _HATCHES[column // len(COLOURS) % len(_HATCHES)]
        looks.append({"label": heading, "color": COLOURS[column % len(COLOURS)], "hatch": hatch})
    columns = [[line.cells[column] for line in lines] for column in range(len(headings))]
    values = [
        [cell.value if cell is not None and has_value(cell) else math.nan for cell in cells]
        for cells in columns
    ]
    labels = [f"{line.name} {DIRECTIONS[line.figure.better]}" for line in lines]
    places = bars(axes, labels, values, looks)
    for place, cell in zip(chain(*places), chain(*columns), strict=True):
        _interval(axes, place, cell)
    axes.margins(x=0.12)


def _interval(axes: Axes, place: float, cell: Figure | None) -> None:
    if cell is None or not has_value(cell):
        note(axes, 0.0, place, " not measured")
        return
    end = cell.value
    if cell.low is not None and cell.high is not None:
        axes.plot([cell.low, cell.high], [place, place], color=INK, linewidth=1.2)
        end = max(end, cell.high)
    note(axes, max(end, 0.0), place, f" {number(cell.value)}")


@styled
def recovery_picture(
    curves: Mapping[str, Sequence[tuple[float, Figure]]], label: str, unit: str
) -> Picture:
    """Draw a figure over the amount of relearning, with its 95 % interval as a band.

    `curves` maps headings to points: optimizer steps of relearning, and the figure after them.

    Raises:
        InputError: There is no point.
    """
    if not any(curves.values()):
        raise InputError("curves: expected at least one point of relearning, found none")
    picture, axes = canvas(8.0, 3.4)
    for index, (heading, points) in enumerate(curves.items()):
        ordered = sorted(points, key=lambda point: point[0])
        steps, figures = [step for step, _ in ordered], [figure for _, figure in ordered]
        style = STYLES[index % len(STYLES)]
        curve(axes, steps, [figure.value for figure in figures], index, heading, linestyle=style)
        low = [figure.value if figure.low is None else figure.low for figure in figures]
        high = [figure.value if figure.high is None else figure.high for figure in figures]
        band(axes, steps, low, high, index)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("optimizer steps of relearning")
    axes.set_ylabel(label)
    axes.set_title(unit)
    legend(picture, axes, columns=3)
    return picture


@styled
def balance_picture(parts: Mapping[str, Mapping[str, float]]) -> Picture:
    """Draw the parts of the balanced score as a radar picture, 0 in the middle and 1 at the rim.

    `parts` maps headings to parts and their values from 0 to 1; a NaN or missing value is a gap.

    Raises:
        InputError: There are fewer than three parts.
    """
    names = list(dict.fromkeys(name for column in parts.values() for name in column))
    if len(names) < 3:
        raise InputError(f"parts: expected at least three for a radar picture, found {names}")
    angles = [2 * math.pi * index / len(names) for index in range(len(names))]
    picture = Picture(figsize=(6.0, 5.0), layout="constrained")
    axes = picture.add_subplot(projection="polar")
    axes.set_facecolor("none")
    for index, (heading, column) in enumerate(parts.items()):
        values = [column.get(name, math.nan) for name in names]
        around, closed = [*angles, angles[0]], [*values, values[0]]
        style = STYLES[index % len(STYLES)]
        curve(axes, around, closed, index, heading, linestyle=style, marker="")
        axes.fill(around, closed, color=COLOURS[index % len(COLOURS)], alpha=0.08)
    axes.set_ylim(0, 1)
    axes.set_yticks((0.25, 0.5, 0.75, 1.0), ("", "0.5", "", "1"))
    axes.set_xticks(angles, names)
    axes.tick_params(axis="x", pad=20)  # clear of the rim
    axes.grid(color=GRID, alpha=0.4)
    legend(picture, axes, columns=2)
    return picture


def has_value(figure: Figure | None) -> bool:
    """Return whether a figure exists and is finite."""
    return figure is not None and math.isfinite(figure.value)
