"""Progress of long work: a bar in a terminal, elsewhere a line at least every half minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["EVERY", "Stage", "duration", "shown"]

EVERY = 30.0
"""Seconds between two lines."""


@dataclass
class Stage:
    """One stage of the work, which counts what is done; `shown` displays it.

    Args:
        name: Short name of the stage.
        total: Number of units, as far as known; None shows only the time.
        unit: Word after the numbers.
        done: Units done; those done before the start do not count for the time left.
    """

    name: str
    total: int | None = 0
    unit: str = "rows"
    done: int = 0
    part: str = field(default="", init=False)
    """Current part of the stage, such as an objective."""
    expected: float = field(default=0.0, init=False)
    """Seconds of the stage at most, used until the first unit is done; 0 for unknown."""

    def __post_init__(self) -> None:
        self._before, self._start = self.done, time.monotonic()

    def add(self, units: int = 1) -> None:
        """Count finished units."""
        self.done += units

    def more(self, units: int) -> None:
        """Increase the total, for example by another attempt."""
        self.total = (self.total or 0) + units

    def counter(self, units: int, ranks: int) -> Callable[[int], None]:
        """Return a function that is called with the number of units that this rank has done.

        Args:
            units: Units of all ranks together, in equal shares.
            ranks: Number of ranks.
        """
        before = self.done

        def count(own: int) -> None:
            self.add(before + min(units, own * ranks) - self.done)

        return count

    @property
    def title(self) -> str:
        """Name and part; only the name when all units are done."""
        over = self.total is not None and self.done >= self.total
        return f"{self.name}: {self.part}" if self.part and not over else self.name

    @property
    def state(self) -> str:
        """Counts, and the time left if it is known, otherwise the time taken."""
        passed = duration(time.monotonic() - self._start)
        if self.total is None:
            return passed
        if self.done >= self.total:
            return f"{self.done:,} {self.unit}, {passed}"
        return f"{self.done:,} of {self.total:,} {self.unit}, {self.left or f'{passed} so far'}"

    @property
    def left(self) -> str:
        """Time left, by the speed so far; empty if it is unknown or all is done."""
        passed, made = time.monotonic() - self._start, self.done - self._before
        more = (self.total or 0) - self.done
        if more <= 0:
            return ""
        if made > 0:
            return f"{duration(passed / made * more)} left"
        rest = self.expected - passed
        return f"at most {duration(rest)} left" if rest > 0 else ""


def duration(seconds: float) -> str:
    """Return a time in words, rounded up: ``45 s``, ``3 min`` or ``1 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(int(seconds + 59) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@contextmanager
def shown(stage: Stage, console: Console | None = None) -> Iterator[Stage]:
    """Show the progress of a stage, in the first process only.

    Args:
        stage: The stage, whose units the caller counts.
        console: Console, which shows nothing if it is quiet; None for the standard error stream.
    """
    console = console or Console(stderr=True)
    if console.quiet or not _is_first_process():
        yield stage
    elif console.is_terminal or console.is_jupyter:
        with Live(get_renderable=lambda: _bar(stage), console=console):
            yield stage
    else:
        with _lines(stage, console):
            yield stage


def _is_first_process() -> bool:
    """Return whether this is rank 0; a process without torch is the only one."""
    distributed: Any = sys.modules.get("torch.distributed")
    several = distributed and distributed.is_available() and distributed.is_initialized()
    return not several or distributed.get_rank() == 0


def _bar(stage: Stage) -> Table:
    row = Table.grid(padding=(0, 1))
    for wide in (False, True, False):
        row.add_column(no_wrap=not wide)  # a narrow terminal shortens the bar first
    if stage.total != 0:
        bar = ProgressBar(stage.total, stage.done, width=40, pulse=stage.total is None)
        row.add_row(Text(stage.title), bar, Text(stage.state))
    return row


@contextmanager
def _lines(stage: Stage, console: Console) -> Iterator[None]:
    """Write a line every `EVERY` seconds until all is done, and one at the end."""

    def say() -> None:
        text = f"{stage.title}: {stage.state}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def write() -> None:
        while not over.wait(EVERY):
            if stage.total is None or stage.done < stage.total:
                say()

    over = Event()
    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if stage.total:
        say()
