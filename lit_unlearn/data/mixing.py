"""Rows of each step: a pure function of (seed, step, rank, world).

Every objective has an endless stream: its rows in a shuffled order, shuffled again in each epoch. A
step takes the next rows of each stream. A run that resumes at step k therefore gets the batches of
an uninterrupted run without any saved state, on any number of ranks. No other file draws random
numbers for data.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from math import ceil, floor
from typing import Literal

from lit_unlearn.errors import InputError

__all__ = ["Draw", "Mixing", "StepPlan", "draw", "epoch_order", "rows_per_step", "shares"]

Mixing = Literal["stratified", "proportional", "temperature"]


@dataclass(frozen=True)
class Draw:
    """One row of a step: its index in the objective's rows, and its number of earlier visits."""

    index: int
    visit: int


@lru_cache(maxsize=256)
def epoch_order(size: int, seed: int, objective: str, epoch: int) -> tuple[int, ...]:
    """Return the order of an objective's rows in one epoch."""
    order = list(range(size))
    random.Random(f"{seed}/{objective}/{epoch}").shuffle(order)
    return tuple(order)


def draw(size: int, seed: int, objective: str, position: int) -> Draw:
    """Return the row at one position of an objective's endless stream."""
    epoch, index = divmod(position, size)
    return Draw(epoch_order(size, seed, objective, epoch)[index], epoch)


def shares(sizes: Mapping[str, int], mixing: Mixing, temperature: float = 1.0) -> dict[str, float]:
    """Return the expected share of each objective in a batch, from the number of its rows.

    ``share_i = n_i^(1/temperature) / sum_j n_j^(1/temperature)``; proportional mixing has
    temperature 1, and a high temperature approaches equal shares (Raffel et al. 2020,
    arXiv 1910.10683, section 3.5.2).
    """
    exponent = 1.0 if mixing == "proportional" else 1.0 / temperature
    powers = {name: size**exponent for name, size in sizes.items()}
    total = sum(powers.values())
    return {name: power / total for name, power in powers.items()}


@dataclass(frozen=True)
class StepPlan:
    """Plan of the rows of every step.

    Args:
        sizes: Number of rows of each objective.
        rows_per_step: Rows of each objective in one step over all ranks. A fraction such as 0.5
            gives a row every second step; over many steps the ratio is exact.
        seed: Seed of the shuffles.
        rank: Rank of this process.
        world: Number of processes; rank r takes every world-th row of the step, from the r-th on.
    """

    sizes: Mapping[str, int]
    rows_per_step: Mapping[str, float]
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        for name, rows in self.rows_per_step.items():
            if rows <= 0 or self.sizes.get(name, 0) <= 0:
                raise InputError(
                    f"Objective {name!r} should have rows and a positive share of the batch. "
                    f"Found {self.sizes.get(name, 0)} rows and {rows} rows per step; "
                    f"check `data.objectives.{name}.sources` and its `rows`."
                )

    def step(self, step: int) -> dict[str, list[Draw]]:
        """Return the rows of one step, by objective, for this rank (possibly none)."""
        plan = {}
        for name, rows in self.rows_per_step.items():
            first, last = floor(step * rows + 1e-9), floor((step + 1) * rows + 1e-9)
            mine = range(first + self.rank, last, self.world)
            plan[name] = [draw(self.sizes[name], self.seed, name, p) for p in mine]
        return plan

    def busiest(self) -> "StepPlan":
        """Return the plan of rank 0, which never has fewer rows than another."""
        return replace(self, rank=0)

    def steps(self, start: int) -> Iterator[dict[str, list[Draw]]]:
        """Yield all steps from ``start`` on, without end."""
        return map(self.step, count(start))

    def steps_of_pass(self, objective: str) -> int:
        """Return the number of steps until all rows of an objective were taken once."""
        return ceil((self.sizes[objective] - 1e-9) / self.rows_per_step[objective])

    def epochs(self, steps: int) -> dict[str, float]:
        """Return the number of epochs of each objective in that number of steps."""
        return {n: steps * rows / self.sizes[n] for n, rows in self.rows_per_step.items()}


def rows_per_step(
    sizes: Mapping[str, int],
    mixing: Mixing,
    rows: Mapping[str, float],
    batch_size: int,
    temperature: float,
) -> dict[str, float]:
    """Return the number of rows of each objective in a step.

    ``stratified`` mixing takes `rows` unchanged; the others divide `batch_size` by `shares`.
    """
    if mixing == "stratified":
        return dict(rows)
    if batch_size <= 0 or temperature <= 0:
        raise InputError(
            f"Mixing {mixing!r} needs a positive `batch_size` and `mixing_temperature`. "
            f"Found {batch_size} and {temperature}."
        )
    return {n: batch_size * share for n, share in shares(sizes, mixing, temperature).items()}
