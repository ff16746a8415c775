"""How far the preparation is: rows done of each stage, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

Tell = Callable[[str, str, int, int], None]
"""Told the stage, the objective at work, and how many rows of how many are done."""


@dataclass
class Stage:
    """Counts the rows of one stage over all objectives.

    Args:
        name: What is done, in a few words.
        total: Rows that have to be done, as far as is known.
        tell: Told of every change.
    """

    name: str
    total: int
    tell: Tell
    objective: str = ""
    done: int = 0

    def at(self, objective: str) -> None:
        """Go on to an objective."""
        self.objective = objective
        self._say()

    def add(self, rows: int = 1) -> None:
        """So many more rows are done."""
        self.done += rows
        self._say()

    def more(self, rows: int) -> None:
        """So many more rows have to be done: another context, another attempt."""
        self.total += rows
        self._say()

    def counter(self, rows: int, ranks: int) -> Callable[[int], None]:
        """Make a function that takes how many rows this rank has done since now.

        Args:
            rows: Rows to be done by all ranks, in equal shares.
            ranks: Number of ranks.
        """
        before = self.done

        def count(own: int) -> None:
            self.add(before + min(rows, own * ranks) - self.done)

        return count

    def _say(self) -> None:
        self.tell(self.name, self.objective, self.done, self.total)


def silent(stage: str, objective: str, done: int, total: int) -> None:
    """Shows nothing."""


@contextmanager
def bars(console: Console) -> Iterator[Tell]:
    """A bar for each stage, with the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, objective: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            over = done >= total or not objective
            described = stage if over else f"{stage}: {objective}"
            progress.update(tasks[stage], completed=done, total=total, description=described)

        yield tell
