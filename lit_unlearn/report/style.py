"""Style of all pictures: colours, line styles, and panels without a box.

Colours are Okabe and Ito's, which colour-blind readers can distinguish. Text and axes use `INK`,
which an HTML page replaces by its text colour, so that pictures are readable on light and dark
backgrounds.
"""

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["BEFORE_COLOUR", "COLOURS", "GRID", "INK", "STYLE", "STYLES"]
__all__ += ["bare", "canvas", "lay_out", "panels", "styled"]

INK = "#3b4046"
GRID = "#9aa0a7"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b")
STYLES = ("-", "--", ":", "-.")
BEFORE_COLOUR = "#9aa0a6"
STYLE: dict[Any, Any] = {  # the keys are typed as a union of 300 literals
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # matplotlib looks for it again at each drawing, in a tenth of the time
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in an objective's name is a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
styled = matplotlib.rc_context(STYLE)
"""Decorator of every function that draws."""


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one bare panel; sizes in inches."""
    figure, (axes,) = panels(1, 1, width, height)
    return figure, axes


def panels(
    count: int, columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with bare panels, row by row; remaining cells of the grid stay empty.

    Width and height are in inches; at most `columns` panels are side by side. `shared` has
    options of matplotlib's ``Figure.subplots``, such as ``sharex``.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(math.ceil(count / columns), columns, squeeze=False, **shared).flatten()
    for axes in grid[:count]:
        bare(axes)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])


def lay_out(figure: Figure) -> None:
    """Place the parts of a figure, once: `Figure.savefig` does it twice for each file.

    The layout takes longer than the drawing. Draw with a canvas afterwards.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not axis.get_label_text():  # its place takes a fifth of the time
                axis.set_label_coords(0.5, 0.5)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def bare(axes: Axes) -> None:
    """Style a panel: no box, a faint grid, a transparent background."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
