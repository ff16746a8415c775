"""Table and pictures of benchmarks/compare_methods.py."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

from lit_unlearn.report.style import COLOURS, INK, STYLE, bare, canvas
from lit_unlearn.sweeping.jobs import EVALUATION
from lit_unlearn.sweeping.table import BALANCE

TABLE = {
    "balance": BALANCE,
    "forgetting": f"{EVALUATION}/part/forgetting",
    "utility": f"{EVALUATION}/part/utility",
    "boundary": f"{EVALUATION}/part/boundary",
    "robustness": f"{EVALUATION}/part/robustness",
    "readability": f"{EVALUATION}/part/readability",
    "tamper resistance": f"{EVALUATION}/tamper_resistance",
    "forget quality": f"{EVALUATION}/tofu/forget_quality",
    "forget ROUGE-L": f"{EVALUATION}/tofu/forget/rouge_l_recall",
    "forget probability": f"{EVALUATION}/tofu/forget/probability",
    "retain ROUGE-L": f"{EVALUATION}/tofu/retain/rouge_l_recall",
    "neighbours refused": f"{EVALUATION}/boundary/neighbor/refused",
    "forget refused": f"{EVALUATION}/prefill/unattacked/refused",
    "forget repetition": f"{EVALUATION}/tofu/forget/repetition",
    "forget empty": f"{EVALUATION}/tofu/forget/empty",
}
"""Heading -> figure of the evaluation."""
SHOWN = (
    "balance",
    "forgetting",
    "utility",
    "boundary",
    "robustness",
    "readability",
    "tamper resistance",
    "forget repetition",
)
"""The balance, its parts, and further figures; a lower repetition is better."""
FONT_SIZE = 8.0
"""Size of labels within a picture, in points."""

Figures = dict[str, float | None]


@dataclass
class Method:
    """The results of one method."""

    name: str
    rate: str | None = None
    """Learning rate that is best on the validation rows; None if every run failed."""
    validation: dict[str, float] = field(default_factory=dict)
    """Learning rate -> balance on the validation rows."""
    runs: dict[str, Figures] = field(default_factory=dict)
    """Seed -> figures of the evaluation at the chosen rate."""
    failures: list[str] = field(default_factory=list)

    def mean(self, heading: str) -> float:
        """Return the mean over seeds of a figure of the table; NaN if a seed has none."""
        values = [figures.get(TABLE[heading]) for figures in self.runs.values()]
        numbers = [math.nan if value is None else value for value in values]
        return fmean(numbers) if numbers else math.nan


def best_rate(validation: dict[str, float]) -> str | None:
    """Return the rate with the highest balance, the lowest such rate; None without any."""
    return max(validation, key=lambda rate: (validation[rate], -float(rate)), default=None)


def next_rates(
    grid: Sequence[str], tried: Sequence[str], validation: dict[str, float], tries: int
) -> list[str]:
    """Return the rates that hill climbing tries next: the middle, then neighbours of the best.

    Args:
        grid: All rates, ascending.
        tried: Rates that were tried.
        validation: Rate -> balance, for runs that did not fail.
        tries: Number of rates that a method tries in all, whatever their figures.

    Returns:
        If no rate was tried, the two rates in the middle (of an odd grid, the middle one and the
        one below). Then the untried neighbours of the best rate, or of each of several best rates;
        at the top, the untried rates nearest to it. Empty after the last try.
    """
    left = tries - len(tried)
    if not tried:
        return list(grid[max(0, len(grid) // 2 - 1) : len(grid) // 2 + 1])[:left]
    highest = max(validation.values(), default=0.0)
    best = [grid.index(rate) for rate in tried if validation.get(rate, 0.0) == highest]
    untried = [rate for rate in grid if rate not in tried]
    distances = {rate: min(abs(grid.index(rate) - place) for place in best) for rate in untried}
    nearest = min(distances.values(), default=0)
    return [rate for rate in untried if distances[rate] == nearest][: max(left, 0)]


def leaders(methods: Sequence[Method], count: int) -> list[Method]:
    """Return the methods with the highest balance on the validation rows."""
    chosen = [method for method in methods if method.rate is not None]
    return sorted(chosen, key=lambda m: -m.validation[m.rate or ""])[:count]


def markdown(methods: Sequence[Method]) -> str:
    """Return the table, the most balanced method first, and a list of failures.

    Figures that no run has are left out, such as forget quality without a retain model.
    """
    measured = {name for name in TABLE for m in methods if not math.isnan(m.mean(name))}
    found = [name for name in TABLE if name in measured | {"balance"}]
    headings = ["method", "learning rate", "seeds", *found]
    lines = [_line(headings), _line(["---", *["---:"] * (len(headings) - 1)])]
    for method in _ordered(methods):
        cells = [f"{method.mean(heading):.2f}" for heading in found]
        balances = [figures.get(BALANCE) or 0.0 for figures in method.runs.values()]
        if len(balances) > 1:
            cells[found.index("balance")] += f" [{min(balances):.2f}, {max(balances):.2f}]"
        lines.append(_line([method.name, str(method.rate or "-"), str(len(method.runs)), *cells]))
    failures = [f"- {text}" for method in methods for text in method.failures]
    return "\n".join([*lines, *(["", "Failed:", "", *failures] if failures else []), ""])


def _ordered(methods: Sequence[Method]) -> list[Method]:
    def key(method: Method) -> float:
        balance = method.mean("balance")
        return math.inf if math.isnan(balance) else -balance

    return sorted(methods, key=key)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells).replace("nan", "\u2013") + " |"


def scatter(methods: Sequence[Method], path: Path) -> None:
    """Draw forgetting against utility, a point for each method; up and to the right is better."""
    places = {
        method.name: (method.mean("forgetting"), method.mean("utility")) for method in methods
    }
    places = {name: place for name, place in places.items() if not any(map(math.isnan, place))}
    with matplotlib.rc_context(STYLE):
        picture, axes = canvas(9.0, 6.5)
        axes.set_xlabel("forgetting (0: as the target, 1: nothing recalled)")
        axes.set_ylabel("utility (share of the target's)")
        axes.set_xlim(-0.05, 1.12)
        axes.set_ylim(-0.05, 1.08)
        for name, place in places.items():
            colour = COLOURS[1] if name.startswith("bidirectional") else COLOURS[0]
            axes.plot(*place, "o", color=colour, markersize=5)
        picture.draw_without_rendering()  # so that the axes know their positions
        pixels = axes.transData.transform(list(places.values())) if places else []
        points = [(x * 72 / picture.dpi, y * 72 / picture.dpi) for x, y in pixels]
        for (name, place), offset in zip(
            places.items(), label_offsets(list(places), points, FONT_SIZE), strict=True
        ):
            axes.annotate(
                name,
                place,
                offset,
                textcoords="offset points",
                fontsize=FONT_SIZE,
                verticalalignment="center",
                arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.4, "shrinkB": 3},
            )
        picture.savefig(path, dpi=110)


def label_offsets(
    names: Sequence[str], points: Sequence[tuple[float, float]], size: float
) -> list[tuple[float, float]]:
    """Return positions of labels that cover neither each other nor a point, near their points.

    Args:
        names: The labels.
        points: Points of the labels; all lengths are in points of 1/72 inch.
        size: Size of the letters.

    Returns:
        The offset of each label from its point to the middle of the label's left edge. A label
        without a free place within 120 points is placed next to its point.
    """
    boxes = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    found = []
    for name, (x, y) in zip(names, points, strict=True):
        width = 0.62 * size * len(name)
        offsets = [
            (shift if shift > 0 else shift - width, rise)
            for distance in range(6, 120, 4)
            for rise in (0, distance, -distance, distance / 2, -distance / 2)
            for shift in (distance, -distance)
        ]
        for offset in [*offsets, offsets[0]]:
            left, middle = x + offset[0], y + offset[1]
            box = (left, middle - size * 0.6, left + width, middle + size * 0.6)
            if not any(_overlap(box, other) for other in boxes):
                break
        boxes.append(box)
        found.append(offset)
    return found


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two boxes (left, bottom, right, top) share more than an edge."""
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in (0, 1))


def bars(methods: Sequence[Method], path: Path) -> None:
    """Draw the balance, its parts and further figures, one panel each; dots are single seeds."""
    ordered = _ordered(methods)
    colours = [COLOURS[4 if "bidirectional" in method.name else 5] for method in ordered]
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(15.5, 1.0 + 0.24 * len(ordered)), layout="constrained")
        panels = picture.subplots(1, len(SHOWN), sharey=True)
        for panel, part in zip(panels, SHOWN, strict=True):
            bare(panel)
            values = [method.mean(part) for method in ordered]
            drawn = [0 if math.isnan(value) else value for value in values]
            panel.barh(range(len(ordered)), drawn, 0.7, color=colours)
            for place, method in enumerate(ordered):
                found = [figures.get(TABLE[part]) for figures in method.runs.values()]
                points = [point for point in found if point is not None]
                panel.plot(points, [place] * len(points), ".", color=INK, markersize=4)
            panel.set_title(part)
            panel.set_xlim(0, 1.02)
            panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panels[0].set_yticks(range(len(ordered)), [method.name for method in ordered])
        panels[0].set_ylim(len(ordered) - 0.4, -0.6)
        picture.savefig(path, dpi=110)
