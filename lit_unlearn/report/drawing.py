"""Parts of pictures: curves, bands, bars, heat maps, legends, and PNG files."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from lit_unlearn.report.style import BEFORE_COLOUR, COLOURS, INK, STYLES, lay_out, styled
from lit_unlearn.utils.ownership import own_file

__all__ = ["band", "bars", "curve", "heat_map", "legend", "note", "picture_file", "save_pictures"]
__all__ += ["scale"]


def curve(axes: Axes, xs: ArrayLike, ys: ArrayLike, index: int, label: str, **look: Any) -> None:
    """Draw a line; ``index`` selects its colour and, after the last colour, another line style.

    A NaN among the ``[n]`` values is a gap. `look` has options of matplotlib's ``Axes.plot`` that
    replace the usual ones.
    """
    usual: dict[str, Any] = {"linewidth": 1.8, "marker": "o", "markersize": 3}
    usual["color"] = COLOURS[index % len(COLOURS)]
    usual["linestyle"] = STYLES[index // len(COLOURS) % len(STYLES)]
    axes.plot(xs, ys, label=label, **{**usual, **look})


def band(axes: Axes, xs: ArrayLike, low: ArrayLike, high: ArrayLike, index: int) -> None:
    """Draw the intervals of the curve with the same index."""
    axes.fill_between(xs, low, high, color=COLOURS[index % len(COLOURS)], alpha=0.15, linewidth=0)


def bars(
    axes: Axes,
    labels: Sequence[str],
    columns: Sequence[Sequence[float]],
    looks: Sequence[Mapping[str, Any]],
) -> list[list[float]]:
    """Draw horizontal bars, grouped by label, with the first label on top.

    Args:
        axes: The panel.
        labels: ``[R]`` names of the rows.
        columns: ``[C][R]`` lengths; NaN draws no bar.
        looks: ``[C]`` options of matplotlib's ``Axes.barh``.

    Returns:
        ``[C][R]`` vertical positions of the bars, for `note`.
    """
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    height = 0.8 / len(columns)
    places = []
    for index, (values, look) in enumerate(zip(columns, looks, strict=True)):
        offset = (index - (len(columns) - 1) / 2) * height
        places.append([row + offset for row in range(len(labels))])
        axes.barh(places[-1], np.nan_to_num(values), height=0.9 * height, **look)
    axes.set_yticks(range(len(labels)), labels)
    axes.yaxis.set_inverted(True)  # invert_yaxis fails for panels that share the axis
    return places


def note(axes: Axes, x: float, y: float, text: str) -> None:
    """Write a small text to the right of a bar's end."""
    axes.text(x, y, text, va="center", color=INK, fontsize=8)


def heat_map(
    axes: Axes,
    table: NDArray[np.float64],
    limit: float = 1.0,
    *,
    numbers: bool = True,
    aspect: Literal["equal", "auto"] = "equal",
) -> AxesImage:
    """Draw ``[R, C]`` cosines: blue agrees, red conflicts, grey is undefined.

    `limit` is the value of the darkest blue, and its negative that of the darkest red. `numbers`
    writes every value into its cell. For `aspect` see matplotlib's ``Axes.imshow``.
    """
    axes.set_facecolor(BEFORE_COLOUR)  # the colour of undefined cells
    image = axes.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit, aspect=aspect)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(table) if numbers else ():
        ink = "white" if abs(value) > 0.6 * limit else "black"
        text = "n/a" if math.isnan(value) else f"{value:z.2f}"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    return image


def scale(figure: Figure, image: AxesImage, panels: Sequence[Axes], **look: Any) -> None:
    """Draw the colour bar of heat maps next to their panels.

    `image` comes from `heat_map`; `look` has options of matplotlib's ``Figure.colorbar``.
    """
    limit = image.get_clim()[1]
    bar = figure.colorbar(image, ax=panels, ticks=(-limit, 0.0, limit), **look)
    bar.ax.set_yticklabels([f"\u2212{limit:g} conflict", "0", f"+{limit:g} agree"])
    bar.outline.set_visible(False)


def legend(figure: Figure, panel: Axes, title: str | None = None, columns: int = 0) -> None:
    """Draw the legend of a panel's curves or bars, which all panels share.

    `columns` is the number of columns of a legend below the panels; 0 puts it to the right.
    """
    handles, labels = panel.get_legend_handles_labels()
    if columns:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title)
    else:
        figure.legend(handles, labels, loc="outside right upper", title=title)


def picture_file(folder: Path, title: str) -> Path:
    """Return the file of a picture: its title, with ``_`` for all except letters and digits."""
    return folder / f"{re.sub(r'[^A-Za-z0-9]+', '_', title)}.png"


@styled
def save_pictures(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write each picture as a PNG file on a white background; return the files."""
    files = []
    for title, figure in figures.items():
        files.append(picture_file(folder, title))
        lay_out(figure)
        with own_file(files[-1]) as temporary:
            figure.set(dpi=150, facecolor="white")
            FigureCanvasAgg(figure).print_png(temporary)  # type: ignore[no-untyped-call]
    return files
