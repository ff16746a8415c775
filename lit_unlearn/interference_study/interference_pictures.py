"""Pictures of the interference: heat maps, layer curves, batch sizes, domains, transfer."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from lit_unlearn.interference_study.estimates import WHOLE, Estimate
from lit_unlearn.log_names import pairs
from lit_unlearn.report.drawing import band, curve, heat_map, legend, scale
from lit_unlearn.report.style import COLOURS, INK, panels, styled

__all__ = ["GAPS"]
__all__ += ["domain_figure", "gap_figure", "layer_figure", "matrix_figure", "projection"]
__all__ += ["size_figure"]

GAPS = ("MMD^2", "proxy A-distance", "covariance CKA")
"""Measures that get a curve over the layers."""


@styled
def matrix_figure(
    found: Sequence[Estimate], figure: str, names: Sequence[str], title: str
) -> Figure:
    """Draw a heat map of one figure per representation, objectives against objectives.

    The figure is ``cosine`` (of the whole model, symmetric) or ``shared gain``.
    """
    kinds = _representations(found)
    size = 1.6 + 0.75 * len(names)
    picture = Figure(figsize=(1.4 + size * len(kinds), size), layout="constrained")
    grid = picture.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(grid, kinds, strict=True):
        image = heat_map(axes, _matrix(found, kind, figure, names))
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(f"{kind}: {title}")
    scale(picture, image, grid, shrink=0.8)
    return picture


def layer_figure(found: Sequence[Estimate], names: Sequence[str]) -> Figure:
    """Draw the cosine of each pair over the layer groups, with 95 % intervals."""
    cosines = [each for each in found if each.figure == "cosine" and each.where != WHOLE]
    size = max(each.tokens for each in cosines)
    chosen = [each for each in cosines if each.tokens == size]
    return _pair_panels(chosen, names, lambda each: each.where, "cosine of gradients")


def size_figure(found: Sequence[Estimate], names: Sequence[str]) -> Figure:
    """Draw the cosine of each pair over the batch size, with 95 % intervals."""
    chosen = [each for each in found if each.figure == "cosine" and each.where == WHOLE]
    title = "cosine; answer tokens per objective"
    return _pair_panels(chosen, names, lambda each: str(each.tokens), title)


@styled
def gap_figure(found: Sequence[Estimate], names: Sequence[str]) -> Figure:
    """Draw the gap over decoder blocks: one row per measure, one column per representation."""
    kinds = _representations(found)
    shown = [(figure, kind) for figure in GAPS for kind in kinds]
    width, height = 4.2 * len(kinds) + 2.2, 2.3 * len(GAPS)
    picture, grid = panels(len(shown), len(kinds), width, height, sharex=True, sharey="row")
    for axes, (figure, kind) in zip(grid, shown, strict=True):
        axes.set_title(f"{kind}: {figure}")
        for index, (i, j) in enumerate(pairs([*names])):
            wanted = kind, figure, names[i], names[j]
            mine = [each.value for each in found if each[:4] == wanted]
            curve(axes, range(len(mine)), mine, index, f"{names[i]} ~ {names[j]}")
    for axes in grid[-len(kinds) :]:
        axes.set_xlabel("decoder block")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(picture, grid[0])
    return picture


@styled
def domain_figure(projections: Mapping[str, Mapping[str, Tensor]], layer: int) -> Figure:
    """Draw rows of the objectives on the first two principal axes, one panel per representation.

    `projections` maps representation and objective to ``[n, 2]``; `layer` is used in the title.
    """
    count = len(projections)
    picture, grid = panels(count, count, 4.2 * count + 1.6, 3.8)
    for axes, (kind, domains) in zip(grid, projections.items(), strict=True):
        for index, (name, points) in enumerate(domains.items()):
            colour, marker = COLOURS[index % len(COLOURS)], "os^Dv<>P"[index % 8]
            x, y = points.T.numpy()
            axes.scatter(x, y, s=18, color=colour, marker=marker, alpha=0.7, label=name)
        axes.set_title(f"{kind}: rows at block {layer}")
        axes.set_xlabel("first principal axis")
    grid[0].set_ylabel("second principal axis")
    legend(picture, grid[0])
    return picture


def projection(states: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    """Return ``[n, 2]`` per objective: rows on the first two principal axes of all rows.

    `states` are ``[L, n, d]`` per objective; `layer` is the index of the decoder block.
    """
    rows = torch.cat([state[layer] for state in states.values()]).double()
    centred = rows - rows.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    points = centred @ axes.T
    counts = [state.shape[1] for state in states.values()]
    return dict(zip(states, points.split(counts), strict=True))


# ----------------------------------------------------------------------------------------- parts


def _representations(found: Sequence[Estimate]) -> list[str]:
    return list(dict.fromkeys(each.representation for each in found if each.figure == "cosine"))


def _matrix(
    found: Sequence[Estimate], kind: str, figure: str, names: Sequence[str]
) -> NDArray[np.float64]:
    """Return the values of the largest batches."""
    table = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(table, 1.0)
    for each in found:  # larger batches come later
        wanted = (each.representation, each.figure) == (kind, figure)
        if wanted and each.where in ("", WHOLE):
            i, j = names.index(each.first), names.index(each.second)
            table[i, j] = each.value
            if figure == "cosine":
                table[j, i] = each.value
    return table


@styled
def _pair_panels(
    found: Sequence[Estimate], names: Sequence[str], place: Callable[[Estimate], str], title: str
) -> Figure:
    """Draw one panel per pair of objectives, one curve per representation."""
    couples = [(names[i], names[j]) for i, j in pairs([*names])]
    places = list(dict.fromkeys(place(each) for each in found))
    columns = min(3, len(couples))
    width, height = 3.4 * columns + 1.4, 2.2 * math.ceil(len(couples) / columns) + 0.8
    picture, grid = panels(len(couples), columns, width, height, sharex=True, sharey=True)
    for axes, couple in zip(grid, couples, strict=True):
        axes.axhline(0.0, color=INK, linewidth=1.0)
        axes.set_title(f"{couple[0]} ~ {couple[1]}")
        for index, kind in enumerate(_representations(found)):
            mine = [each for each in found if (each.representation, *each[2:4]) == (kind, *couple)]
            xs = [places.index(place(each)) for each in mine]
            curve(axes, xs, [each.value for each in mine], index, kind)
            band(axes, xs, [each.low for each in mine], [each.high for each in mine], index)
        axes.set_xticks(range(len(places)), places, rotation=90)
    legend(picture, grid[0], title)
    return picture
