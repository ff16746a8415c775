"""Pictures of what a model holds in its blocks: by token position, or as curves."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lit_unlearn.evaluation.probes import BlockMap
from lit_unlearn.report.drawing import curve, legend
from lit_unlearn.report.style import BEFORE_COLOUR, STYLES, canvas, panels, styled

__all__ = ["block_picture"]

Picture = matplotlib.figure.Figure

_SHARES = 1.0
"""Darkest value of a map of probabilities."""


@styled
def block_picture(maps: Mapping[str, BlockMap], title: str) -> Picture:
    """Draw block by token position, one panel per heading; curves where a block has one value."""
    unit = next(iter(maps.values())).unit
    if all(len(values) == 1 for own in maps.values() for values in own.values):
        return _curves(maps, f"{title}: {unit}")
    picture, grid = panels(len(maps), len(maps), 2.0 + 2.4 * len(maps), 3.6, sharey=True)
    largest = max(value for own in maps.values() for values in own.values for value in values)
    limit = _SHARES if "0 to 1" in unit else max(largest, 1e-6)
    for axes, (heading, own) in zip(grid, maps.items(), strict=True):
        image = _panel(axes, own, limit)
        axes.set_title(heading)
    grid[0].set_ylabel("decoder block")
    bar = picture.colorbar(image, ax=grid)
    bar.set_label(f"{title}: {unit}")
    bar.outline.set_visible(False)
    return picture


def _panel(axes: Axes, own: BlockMap, limit: float) -> matplotlib.image.AxesImage:
    widest = max(map(len, own.values))
    table = np.array([[*values, *[np.nan] * (widest - len(values))] for values in own.values])
    axes.set_facecolor(BEFORE_COLOUR)  # shows where there is no token
    image = axes.imshow(table, "viridis", vmin=0, vmax=limit, origin="lower", aspect="auto")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_yticks(range(len(own.blocks)), [str(block) for block in own.blocks])
    axes.set_xticks(range(widest), [str(place + 1) for place in range(widest)])
    axes.set_xlabel("token of the answer's span")
    return image


def _curves(maps: Mapping[str, BlockMap], label: str) -> Picture:
    picture, axes = canvas(8.0, 3.4)
    for index, (heading, own) in enumerate(maps.items()):
        style = STYLES[index % len(STYLES)]
        values = [value for (value,) in own.values]
        curve(axes, own.blocks, values, index, heading, linestyle=style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("decoder block")
    axes.set_title(label)
    legend(picture, axes, columns=3)
    return picture
