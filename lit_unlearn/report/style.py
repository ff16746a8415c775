"""How every picture looks: colours, line styles, ink, and the bare frame.

Colours are Okabe and Ito's, which the colour-blind can tell apart; text and axes use `INK`, which
the HTML page replaces by the colour of its text, so that one picture reads well on light and on
dark ground.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#3b4046"
GRID = "#9aa0a7"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b")
STYLES = ("-", "--", ":", "-.")
BEFORE_COLOUR = "#9aa0a6"
STYLE: dict[Any, Any] = {  # the keys are typed as a union of 300 literals
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in an objective's name is a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one panel; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    bare(axes)
    return figure, axes


def bare(axes: Axes) -> None:
    """A light frame: no box, faint grid, the figure's own ground."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
