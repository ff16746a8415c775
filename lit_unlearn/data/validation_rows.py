"""Rows for validation: hold out rows, and batch encoded rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import Dataset

from lit_unlearn.data.collation import collate
from lit_unlearn.data.duplicates import question_key
from lit_unlearn.errors import InputError
from lit_unlearn.types import EncodedExample, Example, TokenBatch
from lit_unlearn.utils.digests import text_digest

__all__ = ["ValidationBatch", "ValidationBatches", "ValidationRow", "hold_out"]


def hold_out(
    examples: Mapping[str, Sequence[Example]], shares: Mapping[str, float], seed: int
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """Divide rows into those for training and those for validation.

    A share of an objective's questions is held out, at least one question. The choice depends only
    on the seed and the questions, so that objectives with the same questions hold out the same
    ones. No objective trains on a question that another objective holds out; equality of questions
    is that of `find_duplicates`.

    Args:
        examples: Rows of all objectives.
        shares: Objective -> share of its questions to hold out, between 0 and 1.
        seed: Seed of the choice.

    Returns:
        Training rows of all objectives, and validation rows of the objectives in `shares`.

    Raises:
        InputError: An objective has no rows left.
    """
    held: dict[str, set[str]] = {}
    for name, share in shares.items():
        questions = {question_key(example) for example in examples[name]}
        order = sorted(questions, key=lambda key: text_digest(f"{seed} {key}"))
        held[name] = {*order[: max(1, round(share * len(order)))]}
    all_held = set[str]().union(*held.values())
    kept = {
        name: [example for example in rows if question_key(example) not in all_held]
        for name, rows in examples.items()
    }
    for name, rows in kept.items():
        if not rows and examples[name]:
            raise InputError(
                f"Objective {name!r} should keep rows to train on. Found all "
                f"{len(examples[name])} held out; lower the share in "
                f"`data.objectives.{', '.join(shares)}.validation`."
            )
    chosen = {
        name: [example for example in examples[name] if question_key(example) in keys]
        for name, keys in held.items()
    }
    return kept, chosen


@dataclass(frozen=True)
class ValidationRow:
    """One encoded row of a validation."""

    example: Example
    candidates: Sequence[EncodedExample]
    """The row as its objective reads it: one sequence, one per prefill, or a pair of answers."""
    gold: EncodedExample | None
    """Gold answer after the question and the first candidate's prefill; None without an answer."""


@dataclass(frozen=True)
class ValidationBatch:
    """Rows of one objective that one process reads in one validation step."""

    objective: str
    rows: TokenBatch
    """The rows as the objective reads them; rows borrowed from another process are not counted."""
    gold: TokenBatch | None
    """Gold answers of the rows that have them."""
    asked: Sequence[ValidationRow]
    """The rows, for replies."""
    has_gold: bool
    """Whether any row of the objective, in any batch, has a gold answer."""
    has_accepted: bool
    """Whether any row of the objective has texts that a reply may contain to be correct."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ValidationBatch":
        """Return the batch on another device (Lightning calls this)."""
        gold = None if self.gold is None else self.gold.to(device, non_blocking)
        return replace(self, rows=self.rows.to(device, non_blocking), gold=gold)


@dataclass(frozen=True)
class ValidationBatches(Dataset[ValidationBatch]):
    """Batches of one objective; the rows of each are divided among the processes.

    A process without a row in a batch borrows a row of the first process, as in training.

    Args:
        objective: Name of the objective.
        rows: All rows of the objective.
        size: Number of rows of a batch, over all processes.
        pad_id: Any valid token id.
        spellings: As in `TokenBatch`.
        rank: Rank of this process.
        world: Number of processes.
    """

    objective: str
    rows: Sequence[ValidationRow]
    size: int
    pad_id: int
    spellings: torch.Tensor | None = None
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __getitem__(self, index: int) -> ValidationBatch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        whole = self.rows[index * self.size : (index + 1) * self.size]
        own = whole[self.rank :: self.world]
        chosen = own or whole[:1]
        rows = collate([row.candidates for row in chosen], self.pad_id, self.spellings)
        gold = [[row.gold] for row in own if row.gold is not None]
        return ValidationBatch(
            self.objective,
            replace(rows, borrowed=not own),
            collate(gold, self.pad_id) if gold else None,
            chosen,
            any(row.gold is not None for row in self.rows),
            any(row.example.accepted for row in self.rows),
        )
