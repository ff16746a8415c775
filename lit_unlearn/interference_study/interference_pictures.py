"""Pictures of the interference: heat maps, layer curves, batch sizes, domains, transfer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from lit_unlearn.interference_study.figures import WHOLE, Line
from lit_unlearn.log_names import pairs
from lit_unlearn.report.style import BEFORE_COLOUR, COLOURS, INK, STYLE, STYLES, bare

GAPS = ("MMD^2", "proxy A-distance", "covariance CKA")
"""Measures that get a curve over the layers."""


def matrix_figure(lines: Sequence[Line], figure: str, names: Sequence[str], title: str) -> Figure:
    """A heat map of one figure per representation, objectives against objectives.

    Args:
        lines: All lines.
        figure: ``cosine`` (of the whole model, symmetric) or ``shared gain``.
        names: The objectives.
        title: What the numbers are.
    """
    kinds = _representations(lines)
    tables = [_matrix(lines, kind, figure, names) for kind in kinds]
    size = 1.6 + 0.75 * len(names)
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(1.4 + size * len(kinds), size), layout="constrained")
        panels = picture.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
        for axes, kind, table in zip(panels, kinds, tables, strict=True):
            axes.set_facecolor(BEFORE_COLOUR)  # shows where nothing is known
            image = axes.imshow(table, cmap="RdBu", vmin=-1, vmax=1)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(length=0)
            axes.set_title(f"{kind}: {title}")
            for (row, column), value in np.ndenumerate(table):
                ink = "white" if abs(value) > 0.6 else "black"
                text = "n/a" if math.isnan(value) else f"{value:z.2f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
        bar = picture.colorbar(image, ax=panels, ticks=(-1, 0, 1), shrink=0.8)
        bar.ax.set_yticklabels(["\u22121 conflict", "0", "+1 agree"])
        bar.outline.set_visible(False)
    return picture


def layer_figure(lines: Sequence[Line], names: Sequence[str]) -> Figure:
    """Cosine of each pair over the layer groups, one panel per pair, with 95 % intervals."""
    size = max(line.tokens for line in lines if line.figure == "cosine")
    chosen = [
        line
        for line in lines
        if line.figure == "cosine" and line.tokens == size and line.where != WHOLE
    ]
    return _pair_panels(chosen, names, lambda line: line.where, "cosine of gradients")


def size_figure(lines: Sequence[Line], names: Sequence[str]) -> Figure:
    """Cosine of each pair over the batch size, one panel per pair, with 95 % intervals."""
    chosen = [line for line in lines if line.figure == "cosine" and line.where == WHOLE]
    return _pair_panels(
        chosen, names, lambda line: str(line.tokens), "cosine; answer tokens per objective"
    )


def gap_figure(lines: Sequence[Line], names: Sequence[str]) -> Figure:
    """Domain gap over the decoder blocks: a row per measure, a column per representation."""
    kinds = _representations(lines)
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(4.2 * len(kinds) + 2.2, 2.3 * len(GAPS)), layout="constrained")
        panels = picture.subplots(len(GAPS), len(kinds), squeeze=False, sharex=True, sharey="row")
        for row, figure in zip(panels, GAPS, strict=True):
            for axes, kind in zip(row, kinds, strict=True):
                bare(axes)
                axes.set_title(f"{kind}: {figure}")
                for index, (i, j) in enumerate(pairs([*names])):
                    mine = [
                        line.value
                        for line in lines
                        if (line.representation, line.figure, line.first, line.second)
                        == (kind, figure, names[i], names[j])
                    ]
                    _curve(axes, range(len(mine)), mine, index, f"{names[i]} ~ {names[j]}")
        for axes in panels[-1]:
            axes.set_xlabel("decoder block")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = panels[0][0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside right upper")
    return picture


def domain_figure(projections: Mapping[str, Mapping[str, Tensor]], layer: int) -> Figure:
    """Rows of the objectives on the first two principal axes, one panel per representation.

    Args:
        projections: Representation -> objective -> ``[n, 2]``.
        layer: The decoder block, for the title.
    """
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(4.2 * len(projections) + 1.6, 3.8), layout="constrained")
        panels = picture.subplots(1, len(projections), squeeze=False)[0]
        for axes, (kind, domains) in zip(panels, projections.items(), strict=True):
            bare(axes)
            for index, (name, points) in enumerate(domains.items()):
                colour = COLOURS[index % len(COLOURS)]
                marker = "os^Dv<>P"[index % 8]
                x, y = points.T.numpy()
                axes.scatter(x, y, s=18, color=colour, marker=marker, alpha=0.7, label=name)
            axes.set_title(f"{kind}: rows at block {layer}")
            axes.set_xlabel("first principal axis")
        panels[0].set_ylabel("second principal axis")
        handles, labels = panels[0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside right upper")
    return picture


def projection(states: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    """``[n, 2]`` per objective: rows on the first two principal axes of all rows together.

    Args:
        states: ``[L, n, d]`` per objective.
        layer: Index of the decoder block.
    """
    rows = torch.cat([state[layer] for state in states.values()]).double()
    centred = rows - rows.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    points = centred @ axes.T
    counts = [state.shape[1] for state in states.values()]
    return dict(zip(states, points.split(counts), strict=True))


# ----------------------------------------------------------------------------------------- parts


def _representations(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.representation for line in lines if line.figure == "cosine"))


def _matrix(
    lines: Sequence[Line], kind: str, figure: str, names: Sequence[str]
) -> NDArray[np.float64]:
    """Values of the largest batches."""
    table = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(table, 1.0)
    for line in lines:  # larger batches come later
        wanted = (line.representation, line.figure) == (kind, figure)
        if wanted and line.where in ("", WHOLE):
            i, j = names.index(line.first), names.index(line.second)
            table[i, j] = line.value
            if figure == "cosine":
                table[j, i] = line.value
    return table


def _pair_panels(
    lines: Sequence[Line], names: Sequence[str], place: Callable[[Line], str], title: str
) -> Figure:
    """One panel per pair of objectives, one curve per representation."""
    couples = [(names[i], names[j]) for i, j in pairs([*names])]
    places = list(dict.fromkeys(place(line) for line in lines))
    columns = min(3, len(couples))
    rows = math.ceil(len(couples) / columns)
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(3.4 * columns + 1.4, 2.2 * rows + 0.8), layout="constrained")
        panels = picture.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
        for axes, (first, second) in zip(panels, couples, strict=False):
            bare(axes)
            axes.axhline(0.0, color=INK, linewidth=1.0)
            axes.set_title(f"{first} ~ {second}")
            for index, kind in enumerate(_representations(lines)):
                mine = [
                    line
                    for line in lines
                    if (line.representation, line.first, line.second) == (kind, first, second)
                ]
                xs = [places.index(place(line)) for line in mine]
                _curve(axes, xs, [line.value for line in mine], index, kind)
                low, high = [line.low for line in mine], [line.high for line in mine]
                axes.fill_between(xs, low, high, color=COLOURS[index], alpha=0.15, linewidth=0)
            axes.set_xticks(range(len(places)), places, rotation=90)
        for axes in panels[len(couples) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside right upper", title=title)
    return picture


def _curve(axes: Axes, xs: Sequence[int], ys: Sequence[float], index: int, label: str) -> None:
    colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
    axes.plot(xs, ys, style, color=colour, linewidth=1.6, marker="o", markersize=3, label=label)
