"""Phases of a command: their FLOPs, the time that they take at measured rates, and their table.

Work is counted on a sample of the rows, in prefix trees: common beginnings count once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from lit_unlearn.planning.flops import Flops, forward_flops
from lit_unlearn.planning.forward_passes import ForwardPass, packed_pass
from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.rates import Rates
from lit_unlearn.utils.progress import duration
from lit_unlearn.utils.tables import add_row, table

__all__ = [
    "LEAST_FLOPS",
    "Forecast",
    "Ids",
    "Phase",
    "forecast_of",
    "reading",
    "replying",
    "step_phase",
]

Ids = Sequence[int]

LEAST_FLOPS = 2e12
"""Smallest number of FLOPs for which a forecast is made."""

_SIZES = ("reading", "replying", "training", "moved", "written")


@dataclass(frozen=True)
class Phase:
    """One phase of a command."""

    name: str
    reading: float = 0.0
    """FLOPs of passes over many tokens."""
    replying: float = 0.0
    """FLOPs of replies, token by token."""
    training: float = 0.0
    """FLOPs of passes forward and backward."""
    moved: float = 0.0
    """Bytes that elementwise operations read and write: logits, gradients, the optimizer."""
    written: float = 0.0
    """Bytes of files."""
    note: str = ""
    kept: bool = False
    """Whether the results are stored for other runs."""
    counted: bool = True
    """Whether the work is known."""

    @property
    def flops(self) -> float:
        """FLOPs of all kinds."""
        return self.reading + self.replying + self.training

    def __add__(self, other: Phase) -> Phase:
        """Return the phase with the work of another phase added."""
        return replace(
            self, **{name: getattr(self, name) + getattr(other, name) for name in _SIZES}
        )

    def times(self, factor: float) -> Phase:
        """Return the phase with its work multiplied by a factor."""
        return replace(self, **{name: factor * getattr(self, name) for name in _SIZES})

    def without(self, stored: float | None) -> Phase:
        """Return the phase without the stored share of its work; None is an unknown share."""
        if stored is None:
            return replace(self, note="less if it is in the cache")
        note = f"{stored:.0%} " if stored < 1 else ""
        return replace(self.times(1 - stored), note=f"{note}from the cache" if stored else "")

    def seconds(self, rates: Rates) -> float:
        """Return the time that the phase takes."""
        computing = self.reading / rates.reading + self.replying / rates.replying
        computing += self.training / rates.training if self.training else 0.0
        return computing + self.moved / rates.moving + self.written / rates.writing


def step_phase(flops: Mapping[str, Flops]) -> Phase:
    """Return the work of a step from its FLOPs by objective and kind."""
    read = sum(own["scoring"] + own["teacher"] for own in flops.values())
    return Phase("", read, training=sum(sum(own.values()) for own in flops.values()) - read)


def reading(layout: Layout, rows: Sequence[Ids], lowest: int = 0, predictions: int = 0) -> float:
    """Return the FLOPs of reading rows once.

    Args:
        layout: The model.
        rows: Token ids of each row.
        lowest: Index of the first block that runs.
        predictions: Positions with logits; 0 for one in each row.
    """
    rows = [row for row in rows if row]
    if not rows:
        return 0.0
    return forward_flops(layout, packed_pass(rows, predictions or len(rows)), lowest)


def replying(layout: Layout, tokens: float) -> float:
    """Return the FLOPs of generating tokens of replies; attention is left out."""
    return tokens * forward_flops(layout, ForwardPass("teacher", 1, 1, 1, 0, 1, False))


@dataclass(frozen=True)
class Forecast:
    """The phases of a command, and the rates of this machine."""

    phases: Sequence[Phase]
    rates: Rates

    @property
    def seconds(self) -> float:
        """Time that all phases take."""
        return sum(phase.seconds(self.rates) for phase in self.phases)

    @property
    def seconds_cached(self) -> float:
        """Time of a later run that finds all stored results in the cache."""
        return sum(phase.seconds(self.rates) for phase in self.phases if not phase.kept)

    def table(self) -> Table:
        """Return the phases, their FLOPs and seconds as a table."""
        rates = self.rates
        speeds = {"reading": rates.reading, "replies": rates.replying, "training": rates.training}
        speeds_text = (f"{rate / 1e9:.3g} in {name}" for name, rate in speeds.items() if rate)
        made = table(
            "Expected time, at most",
            ("phase", "TFLOP", "about", ""),
            left=1,
            caption=f"{rates.machine}; GFLOP/s: {', '.join(speeds_text)}",
        )
        for phase in self.phases:
            cells = [f"{phase.flops / 1e12:.3g}", duration(phase.seconds(rates))]
            add_row(made, [phase.name, *(cells if phase.counted else ("?", "?")), phase.note])
        total = sum(phase.flops for phase in self.phases)
        note = "" if all(phase.counted for phase in self.phases) else "and what is unknown"
        add_row(made, ["all", f"{total / 1e12:.3g}", duration(self.seconds), note], "bold")
        return made


def forecast_of(found: Sequence[Phase], measure: Callable[[], Rates]) -> Forecast | None:
    """Return the forecast of phases; None if they take only seconds.

    Args:
        found: The phases.
        measure: Function that measures the rates of this machine; called only if needed.
    """
    if sum(phase.flops for phase in found) < LEAST_FLOPS:
        return None
    return Forecast(found, measure())
