"""Batches with the same number of answer tokens for every objective and representation.

Gradients over more tokens are less noisy, and cosines of less noisy gradients are larger. To make
raw and unified data comparable, a batch is filled with rows until it has the wanted number of
answer tokens; of the last row only the needed tokens count.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lit_unlearn.data.mixing import Draw, draw
from lit_unlearn.errors import InputError
from lit_unlearn.types import TokenBatch

__all__ = ["BatchStream", "Batches", "Rows", "cut"]

Batches = dict[str, list[TokenBatch]]
"""Micro batches by objective."""


@dataclass(frozen=True)
class Rows:
    """The rows of every objective in one representation."""

    predictions: Mapping[str, Sequence[int]]
    """Number of answer tokens of each row, by objective."""
    collate: Callable[[dict[str, list[Draw]]], Batches]
    """Function that makes batches of drawn rows."""
    seed: int = 0


class BatchStream:
    """Stream of batches with a fixed number of answer tokens for each objective.

    A batch continues after the rows of the previous one.

    Raises:
        InputError: An objective has no rows.
    """

    def __init__(self, rows: Rows, tokens: int) -> None:
        for name, predictions in rows.predictions.items():
            if not predictions:
                raise InputError(f"data.objectives.{name}: expected usable rows, found none")
        self.rows = rows
        self.tokens = tokens
        self.positions = dict.fromkeys(rows.predictions, 0)

    def batch(self) -> Batches:
        """Return the next batch."""
        drawn, last = {}, {}
        for name in self.positions:
            drawn[name], last[name] = self._draws(name)
        found = self.rows.collate(drawn)
        return {name: [*parts[:-1], cut(parts[-1], last[name])] for name, parts in found.items()}

    def visits(self) -> dict[str, float]:
        """Return by objective how often a row was drawn so far, on average."""
        return {n: p / len(self.rows.predictions[n]) for n, p in self.positions.items()}

    def _draws(self, name: str) -> tuple[list[Draw], int]:
        """Return rows of one objective, and the number of answer tokens of the last that count."""
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
    """Return the batch with only the first ``count`` predictions of its last example's answers."""
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
