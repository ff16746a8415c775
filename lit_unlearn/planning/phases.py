"""Phases of a command: their FLOPs, the time that they take at measured rates, and their table.

Work is counted on a sample of the rows, as prefix trees: what rows of the sample begin with counts
once.
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
    "WORTH_SAYING",
    "Forecast",
    "Ids",
    "Phase",
    "forecast_of",
    "reading",
    "replying",
    "step_phase",
]

Ids = Sequence[int]

WORTH_SAYING = 2e12
"""FLOPs from which on work takes long enough to say how long."""

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
    """Bytes that are read and written number by number: logits, gradients, the optimizer."""
    written: float = 0.0
    """Bytes of files."""
    note: str = ""
    kept: bool = False
    """Whether the results are kept for other runs."""

    @property
    def flops(self) -> float:
        """FLOPs of all kinds."""
        return self.reading + self.replying + self.training

    def __add__(self, other: Phase) -> Phase:
        """Return the phase with the work of another one."""
        return replace(
            self, **{name: getattr(self, name) + getattr(other, name) for name in _SIZES}
        )

    def times(self, factor: float) -> Phase:
        """Return the phase with so many times the work."""
        return replace(self, **{name: factor * getattr(self, name) for name in _SIZES})

    def without(self, stored: float | None) -> Phase:
        """Return what is left to do where a share of the results is in a cache; None is unknown."""
        if stored is None:
            return replace(self, note="less where it is in the cache")
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


def reading(layout: Layout, rows: Sequence[Ids], lowest: int = 0, of: int = 0) -> float:
    """Return the FLOPs of reading rows once.

    Args:
        layout: The model.
        rows: Token ids of each row.
        lowest: First block that reads.
        of: Positions with logits; 0 for one in each row.
    """
    rows = [row for row in rows if row]
    return forward_flops(layout, packed_pass(rows, of or len(rows)), lowest) if rows else 0.0


def replying(layout: Layout, tokens: float) -> float:
    """Return the FLOPs of so many tokens of replies; attention is left out."""
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
    def again(self) -> float:
        """Time that another run takes for which all is in the cache that can be."""
        return sum(phase.seconds(self.rates) for phase in self.phases if not phase.kept)

    def table(self) -> Table:
        """Return the phases, their FLOPs and seconds as a table."""
        rates = self.rates
        speeds = {"reading": rates.reading, "replies": rates.replying, "training": rates.training}
        told = (f"{rate / 1e9:.3g} in {name}" for name, rate in speeds.items() if rate)
        made = table(
            "Time to come, at the most",
            ("phase", "TFLOP", "about", ""),
            left=1,
            caption=f"{rates.machine}; GFLOP/s: {', '.join(told)}",
        )
        for phase in self.phases:
            cells = [phase.name, f"{phase.flops / 1e12:.3g}", duration(phase.seconds(rates))]
            add_row(made, [*cells, phase.note])
        total = sum(phase.flops for phase in self.phases)
        add_row(made, ["all", f"{total / 1e12:.3g}", duration(self.seconds), ""], "bold")
        return made


def forecast_of(found: Sequence[Phase], measure: Callable[[], Rates]) -> Forecast | None:
    """Return the forecast of phases; None where they take seconds.

    Args:
        found: The phases.
        measure: Measures the rates of this machine, where they are needed.
    """
    if sum(phase.flops for phase in found) < WORTH_SAYING:
        return None
    return Forecast(found, measure())
