"""Encoded rows as a padded `TokenBatch`. Masks come from lengths, never from the pad id."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_unlearn.types import EncodedExample, TokenBatch, Tokens

__all__ = ["collate", "pad", "tokens"]


def pad(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return right-padded ids and their mask, both ``[B, T]`` int64."""
    rows = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return pad_sequence(rows, batch_first=True, padding_value=pad_id), mask


def tokens(
    sequences: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int], pad_id: int
) -> Tokens:
    """Pad sequences and find the positions that predict ``counts[b]`` tokens from ``starts[b]`` on.

    The causal shift happens only here: the token at ``start`` is predicted at ``start - 1``.
    """
    input_ids, mask = pad(sequences, pad_id)
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    columns = [
        start - 1 + k for start, count in zip(starts, counts, strict=True) for k in range(count)
    ]
    return Tokens(input_ids, mask, torch.tensor(rows), torch.tensor(columns))


def collate(
    groups: Sequence[Sequence[EncodedExample]], pad_id: int, spellings: Tensor | None = None
) -> TokenBatch:
    """Return the rows of one objective in one step as tensors, from the candidates of each example.

    If any row has a version without prefill, the other rows use their teacher's tokens instead.
    Nothing depends on ``pad_id``; for ``spellings`` see `TokenBatch`.
    """
    rows = [row for group in groups for row in group]
    counts = [row.predictions for row in rows]
    student = tokens([r.student_ids for r in rows], [r.student_start for r in rows], counts, pad_id)
    teacher = tokens([r.teacher_ids for r in rows], [r.teacher_start for r in rows], counts, pad_id)
    unprefilled = None
    if any(row.unprefilled_ids for row in rows):
        unprefilled = tokens(
            [r.unprefilled_ids or r.teacher_ids for r in rows],
            [r.unprefilled_start or r.teacher_start for r in rows],
            counts,
            pad_id,
        )
    marked = None
    if any(row.marked for row in rows):
        marks = [k in row.marked for row in rows for k in range(row.predictions)]
        marked = torch.tensor(marks)
    targets = [row.student_ids[row.student_start :] for row in rows]
    return TokenBatch(
        example_ids=tuple(row.example_id for row in rows),
        groups=torch.tensor([index for index, group in enumerate(groups) for _ in group]),
        student=student,
        teacher=teacher,
        offsets=torch.tensor([k for count in counts for k in range(count)]),
        target_ids=torch.tensor([t for target in targets for t in target])
        if all(targets)
        else None,
        unprefilled=unprefilled,
        spellings=spellings,
        marked=marked,
    )
