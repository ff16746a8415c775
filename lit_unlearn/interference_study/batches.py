"""Batches with the same number of answer tokens for every objective and representation.

Gradients of more tokens are less noisy, and cosines of less noisy gradients are larger. So that
raw and unified data can be compared, a batch is filled with rows until it has so many answer
tokens, and of the last row only as many count as are still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lit_unlearn.data.mixing import Draw, draw
from lit_unlearn.errors import InputError
from lit_unlearn.types import TokenBatch

Batches = dict[str, list[TokenBatch]]
"""Micro batches of each objective."""


@dataclass(frozen=True)
class Rows:
    """The rows of every objective in one representation, ready to be collated."""

    predictions: Mapping[str, Sequence[int]]
    """Answer tokens of each row."""
    collate: Callable[[dict[str, list[Draw]]], Batches]
    seed: int = 0


class Stream:
    """Draws batches; each takes the rows after those of the one before.

    Args:
        rows: What is drawn from.
        tokens: Answer tokens of each objective in a batch.
    """

    def __init__(self, rows: Rows, tokens: int) -> None:
        for name, predictions in rows.predictions.items():
            if not predictions:
                raise InputError(f"data.objectives.{name}: expected usable rows, found none")
        self.rows = rows
        self.tokens = tokens
        self.positions = dict.fromkeys(rows.predictions, 0)

    def batch(self) -> Batches:
        """The next batch."""
        drawn, last = {}, {}
        for name in self.positions:
            drawn[name], last[name] = self._draws(name)
        found = self.rows.collate(drawn)
        return {name: [*parts[:-1], cut(parts[-1], last[name])] for name, parts in found.items()}

    def visits(self) -> dict[str, float]:
        """How often each objective's rows were drawn so far, on average."""
        return {n: p / len(self.rows.predictions[n]) for n, p in self.positions.items()}

    def _draws(self, name: str) -> tuple[list[Draw], int]:
        """Rows of one objective, and how many answer tokens of the last one count."""
        counts, missing = self.rows.predictions[name], self.tokens
        draws: list[Draw] = []
        while True:
            draws.append(draw(len(counts), self.rows.seed, name, self.positions[name]))
            self.positions[name] += 1
            count = counts[draws[-1].index]
            if count >= missing:
                return draws, missing
            missing -= count


def cut(batch: TokenBatch, count: int) -> TokenBatch:
    """The batch with only the first ``count`` predictions of its last example's answers."""
    last = int(batch.groups.max())
    keep = (batch.groups[batch.student.rows] != last) | (batch.offsets < count)
    bare = batch.unprefilled
    return replace(
        batch,
        student=batch.student.select_predictions(keep),
        teacher=batch.teacher.select_predictions(keep),
        offsets=batch.offsets[keep],
        target_ids=None if batch.target_ids is None else batch.target_ids[keep],
        unprefilled=None if bare is None else bare.select_predictions(keep),
    )
