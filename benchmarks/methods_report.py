"""The table and the pictures of benchmarks/compare_methods.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

from lit_unlearn.jobs import EVALUATION
from lit_unlearn.report.style import COLOURS, INK, STYLE, bare, canvas
from lit_unlearn.sweep_table import BALANCE

TABLE = {
    "balance": BALANCE,
    "forgetting": f"{EVALUATION}/part/forgetting",
    "utility": f"{EVALUATION}/part/utility",
    "boundary": f"{EVALUATION}/part/boundary",
    "robustness": f"{EVALUATION}/part/robustness",
    "resistance to relearning": f"{EVALUATION}/resistance_to_relearning",
    "forget quality": f"{EVALUATION}/tofu/forget_quality",
    "forget ROUGE-L": f"{EVALUATION}/tofu/forget/rouge_l_recall",
    "forget probability": f"{EVALUATION}/tofu/forget/probability",
    "retain ROUGE-L": f"{EVALUATION}/tofu/retain/rouge_l_recall",
    "model utility": f"{EVALUATION}/tofu/model_utility",
    "neighbours refused": f"{EVALUATION}/boundary/neighbor/refused",
}
"""Heading -> figure of the evaluation."""
SHOWN = ("forgetting", "utility", "boundary", "robustness", "resistance to relearning")
"""The parts of the balance, and what stands beside it."""

Figures = dict[str, float | None]


@dataclass
class Method:
    """What was found about one method."""

    name: str
    rate: str | None = None
    """The learning rate that the validation rows chose; None where every run failed."""
    validation: dict[str, float] = field(default_factory=dict)
    """Learning rate -> balance on the validation rows."""
    runs: dict[str, Figures] = field(default_factory=dict)
    """Seed -> figures of the evaluation at the chosen rate."""
    failures: list[str] = field(default_factory=list)

    def mean(self, heading: str) -> float:
        """A figure of the table, mean over seeds; NaN where one is missing."""
        values = [figures.get(TABLE[heading]) for figures in self.runs.values()]
        numbers = [math.nan if value is None else value for value in values]
        return fmean(numbers) if numbers else math.nan


def best_rate(validation: dict[str, float]) -> str | None:
    """The rate with the highest balance; of equals the lowest rate; None without any."""
    return max(validation, key=lambda rate: (validation[rate], -float(rate)), default=None)


def next_rates(
    grid: Sequence[str], tried: Sequence[str], validation: dict[str, float]
) -> list[str]:
    """What a climb on the grid tries next: the middle first, then the neighbours of the best.

    Args:
        grid: All rates, ascending.
        tried: Those of them that were tried.
        validation: Rate -> balance, of those that did not fail.

    Returns:
        The two rates in the middle if none was tried (of an odd grid the one below it and it);
        then what lies beside the best one, or beside each of several equals, and was not tried.
        Empty at the top.
    """
    if not tried:
        return list(grid[max(0, len(grid) // 2 - 1) : len(grid) // 2 + 1])
    highest = max(validation.values(), default=0.0)
    best = [rate for rate in tried if validation.get(rate, 0.0) == highest]
    beside = {grid.index(rate) + step for rate in best for step in (-1, 1)}
    return [rate for place, rate in enumerate(grid) if place in beside and rate not in tried]


def leaders(methods: Sequence[Method], count: int) -> list[Method]:
    """The methods with the highest balance on the validation rows."""
    chosen = [method for method in methods if method.rate is not None]
    return sorted(chosen, key=lambda m: -m.validation[m.rate or ""])[:count]


def markdown(methods: Sequence[Method]) -> str:
    """The table, the most balanced method first, and the failures below it."""
    headings = ["method", "learning rate", "seeds", *TABLE]
    lines = [_line(headings), _line(["---", *["---:"] * (len(headings) - 1)])]
    for method in _ordered(methods):
        cells = [f"{method.mean(heading):.2f}" for heading in TABLE]
        balances = [figures.get(BALANCE) or 0.0 for figures in method.runs.values()]
        if len(balances) > 1:
            cells[0] += f" [{min(balances):.2f}, {max(balances):.2f}]"
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
    """Forgetting against utility, a point for each method; up and to the right is better."""
    with matplotlib.rc_context(STYLE):
        picture, axes = canvas(7.0, 5.5)
        for method in methods:
            place = method.mean("forgetting"), method.mean("utility")
            if not any(map(math.isnan, place)):
                colour = COLOURS[1] if method.name.startswith("bidirectional") else COLOURS[0]
                axes.plot(*place, "o", color=colour)
                axes.annotate(method.name, place, (4, 3), textcoords="offset points", fontsize=8)
        axes.set_xlabel("forgetting (0: as the target, 1: nothing recalled)")
        axes.set_ylabel("utility (share of the target's)")
        axes.set_xlim(-0.05, 1.1)
        axes.set_ylim(-0.05, 1.1)
        picture.savefig(path, dpi=110)


def bars(methods: Sequence[Method], path: Path) -> None:
    """The parts of the balance and resistance, one panel each; dots are single seeds."""
    ordered = _ordered(methods)
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(12.5, 1.0 + 0.24 * len(ordered)), layout="constrained")
        panels = picture.subplots(1, len(SHOWN), sharey=True)
        for panel, part in zip(panels, SHOWN, strict=True):
            bare(panel)
            values = [method.mean(part) for method in ordered]
            drawn = [0 if math.isnan(value) else value for value in values]
            panel.barh(range(len(ordered)), drawn, 0.7, color=COLOURS[5])
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
