"""Types of the data, one for each stage: raw row -> `Example` -> `EncodedExample` -> `TokenBatch`.

Axes: ``B`` rows of a batch, ``T`` token positions, ``N`` predictions (answer positions of all rows
of a batch, one after the other), ``V`` vocabulary, ``M`` objectives, ``G`` layer groups.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Domain", "EncodedExample", "Example", "Representation", "Role", "TokenBatch", "Tokens"]
__all__ += ["Turn"]

Role = Literal["system", "user", "assistant"]
Domain = Literal[
    "question_answer", "multiple_choice", "passage", "dialogue", "instruction", "preference"
]
Representation = Literal["unified", "raw"]


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Example:
    """One row of any domain in the unified representation: a conversation and its answer."""

    example_id: str
    """Unique and stable id: ``<source>/<row number or the row's own id>``."""
    turns: tuple[Turn, ...]
    """Conversation before the answer; its last turn is the user's question."""
    answer: str
    """Gold answer; empty only if the source has only questions."""
    domain: Domain
    accepted: tuple[str, ...] = ()
    """Other spellings of the gold answer, which count as correct when a generation is scored."""
    distractors: tuple[str, ...] = ()
    """Wrong answers of the row (other options, perturbed answers), used only for scoring."""
    paraphrases: tuple[str, ...] = ()
    """Gold answer in other words, if the data set has it; used only for scoring."""
    rejected: tuple[str, ...] = ()
    """Answers of a preference pair to which `answer` is preferred."""
    plain: bool = False
    """Whether the row is plain text: ``answer`` continues ``turns[0].content``, no template."""

    @property
    def question(self) -> str:
        """Text of the last turn."""
        return self.turns[-1].content


@dataclass(frozen=True)
class EncodedExample:
    """One row as token ids, for the student and for the teacher, aligned on the answer.

    ``student_ids[student_start + i] == teacher_ids[teacher_start + i]`` for ``i`` in
    ``range(target_count)``. A row without answer has `target_count` 0 and one prediction, the first
    answer token.
    """

    example_id: str
    student_ids: tuple[int, ...]
    student_start: int
    teacher_ids: tuple[int, ...]
    teacher_start: int
    target_count: int
    """Number of answer tokens, including the end-of-turn token; 0 for a row without answer."""
    unprefilled_ids: tuple[int, ...] = ()
    """Teacher's ids without the prefill; empty if the row has no prefill, or if its answer has
    other tokens there, but for a space in front (preparation counts these rows)."""
    unprefilled_start: int = 0
    prefill: str = ""
    marked: tuple[int, ...] = ()
    """Indices of the answer tokens that hold its knowledge; empty if they were not looked for."""

    @property
    def predictions(self) -> int:
        """Number of positions at which the model predicts an answer token; at least 1."""
        return max(1, self.target_count)


@dataclass(frozen=True)
class Tokens:
    """Padded input of one model (student or teacher) for a batch, and its predictions."""

    input_ids: Tensor
    """``[B, T]``, int64."""
    attention_mask: Tensor
    """``[B, T]``, int64: 1 on real tokens; made from lengths, never from the pad id."""
    rows: Tensor
    """``[N]``, int64: the row of each prediction."""
    columns: Tensor
    """``[N]``, int64: the position whose output is the prediction, one before the token."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Tokens":
        """Return the same on another device."""
        fields = (self.input_ids, self.attention_mask, self.rows, self.columns)
        return Tokens(*(f.to(device, non_blocking=non_blocking) for f in fields))

    def joined(self, other: "Tokens") -> "Tokens":
        """Return the rows and predictions of both, those of the other one last."""
        width = max(self.input_ids.shape[1], other.input_ids.shape[1])
        ids, mask = (
            torch.cat([F.pad(part, (0, width - part.shape[1])) for part in pair])
            for pair in (
                (self.input_ids, other.input_ids),
                (self.attention_mask, other.attention_mask),
            )
        )
        rows = torch.cat([self.rows, other.rows + len(self.input_ids)])
        return Tokens(ids, mask, rows, torch.cat([self.columns, other.columns]))

    def select_rows(self, rows: Tensor) -> "Tokens":
        """Return only the given rows, in the given order (``rows``: ``[R]``, int64)."""
        order, new_rows = _regroup(self.rows, rows)
        return Tokens(
            self.input_ids[rows], self.attention_mask[rows], new_rows, self.columns[order]
        )

    def select_predictions(self, keep: Tensor) -> "Tokens":
        """Return only the predictions where ``keep`` (``[N]``, bool) is true."""
        return replace(self, rows=self.rows[keep], columns=self.columns[keep])


def _regroup(row_of: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the predictions of ``rows``, in that order, and their new rows."""
    matches = rows[:, None] == row_of[None, :]
    new_rows, order = matches.nonzero(as_tuple=True)
    return order, new_rows


@dataclass(frozen=True)
class TokenBatch:
    """Rows of one objective in one step. Student and teacher predict the same answer tokens.

    A row with several candidate prefills appears once per candidate, under one number in `groups`.
    """

    example_ids: tuple[str, ...]
    """Ids of the ``B`` rows."""
    groups: Tensor
    """``[B]``, int64: number of the example, 0, 1, 2, ...; its candidates share it."""
    student: Tokens
    teacher: Tokens
    offsets: Tensor
    """``[N]``, int64: index of each prediction within its answer, 0 for the first token."""
    target_ids: Tensor | None
    """``[N]``, int64: the answer tokens; None if the rows have no answer."""
    unprefilled: Tokens | None = None
    """Teacher's input without the prefills; None if no row has such a version. A row without one
    has the input of `teacher` here."""
    spellings: Tensor | None = None
    """``[2, V]``, int64: each token without and with a space in front
    (`lit_unlearn.data.spellings`); None if they are not known."""
    marked: Tensor | None = None
    """``[N]``, bool: whether the answer token holds knowledge; None if that was not looked for."""
    borrowed: bool = False
    """Whether these are rows of another process, run only to keep in step and never counted."""

    def __len__(self) -> int:
        """Return the number of rows; each candidate counts."""
        return len(self.example_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TokenBatch":
        """Return the same on another device (Lightning calls this)."""

        def move(value: Tensor) -> Tensor:
            return value.to(device, non_blocking=non_blocking)

        spellings = None if self.spellings is None else move(self.spellings)
        moved = replace(self, groups=move(self.groups), spellings=spellings)
        return moved._each(lambda tokens: tokens.to(device, non_blocking), move)

    def select_rows(self, rows: Tensor) -> "TokenBatch":
        """Return only the given rows, in the given order (``rows``: ``[R]``, int64)."""
        order, _ = _regroup(self.student.rows, rows)
        ids = tuple(self.example_ids[i] for i in rows.tolist())
        chosen = replace(self, example_ids=ids, groups=self.groups[rows])
        return chosen._each(lambda tokens: tokens.select_rows(rows), lambda values: values[order])

    def first_positions(self, count: int) -> "TokenBatch":
        """Return only the first ``count`` predictions of each answer."""
        keep = self.offsets < count
        return self._each(
            lambda tokens: tokens.select_predictions(keep), lambda values: values[keep]
        )

    def _each(
        self, change: Callable[[Tokens], Tokens], choose: Callable[[Tensor], Tensor]
    ) -> "TokenBatch":
        """Return the batch with all inputs of models, and all values per prediction, changed."""
        return replace(
            self,
            student=change(self.student),
            teacher=change(self.teacher),
            unprefilled=None if self.unprefilled is None else change(self.unprefilled),
            offsets=choose(self.offsets),
            target_ids=None if self.target_ids is None else choose(self.target_ids),
            marked=None if self.marked is None else choose(self.marked),
        )
