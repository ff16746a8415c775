"""The rows that a teacher will be asked for: each once, and in batches that begin alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_unlearn.types import Tokens

_PASS_TOKENS = 64
"""What a forward pass costs beside its tokens, in tokens; a guess."""


@dataclass(frozen=True)
class Row:
    """One row, and the positions at which the teacher is asked for its prediction."""

    ids: Tensor
    """``[T]``, int64, on the CPU, without padding."""
    first: int
    """The first position; all from here to `last` are kept."""
    last: int

    @property
    def key(self) -> bytes:
        """16 bytes; says which row it is."""
        return row_key(self.ids)

    @property
    def count(self) -> int:
        """Number of positions."""
        return self.last - self.first + 1

    def widened(self, first: int, last: int) -> Row:
        """The same row with these positions too."""
        return replace(self, first=min(self.first, first), last=max(self.last, last))


def row_key(ids: Tensor) -> bytes:
    """16 bytes that stand for a row's token ids (``[T]``, int64, on the CPU)."""
    return hashlib.blake2b(ids.numpy().tobytes(), digest_size=16).digest()


def sequences(tokens: Tokens) -> list[Tensor]:
    """``B`` times ``[T]``: each row's ids on the CPU, without padding (which is on the right)."""
    lengths = tokens.attention_mask.sum(-1).tolist()
    return [i[:n].contiguous() for i, n in zip(tokens.input_ids.cpu(), lengths, strict=True)]


def collect(requests: Iterable[Tokens]) -> dict[bytes, Row]:
    """Every row of the requests once, by its key, with all positions at which it is asked for."""
    rows: dict[bytes, Row] = {}
    for tokens in requests:
        for index, ids in enumerate(sequences(tokens)):
            columns = tokens.columns[tokens.rows == index]
            if not len(columns):
                continue
            first, last, key = int(columns.min()), int(columns.max()), row_key(ids)
            rows[key] = rows.get(key, Row(ids.clone(), first, last)).widened(first, last)
    return rows


def in_batches(rows: Iterable[Row], most_tokens: int) -> Iterator[tuple[list[Row], int]]:
    """Batches of rows that begin alike, and how many first tokens the rows of each share.

    A batch costs its shared tokens once, the others with padding, and `_PASS_TOKENS`. Rows are
    taken in the order of their ids; each joins the batch before it where that is no dearer than a
    batch of its own.

    Args:
        rows: In any order.
        most_tokens: Tokens of a batch with padding, the shared ones counted in every row; a longer
            row is a batch of its own.
    """
    batch: list[Row] = []
    shared = longest = 0
    for row in sorted(rows, key=lambda row: row.ids.tolist()):
        length = len(row.ids)
        if batch:
            common = min(shared, row.first, _common(batch[-1].ids, row.ids))
            most = max(longest, length)
            together = common + (len(batch) + 1) * (most - common)
            apart = shared + len(batch) * (longest - shared) + length + _PASS_TOKENS
            if together <= apart and (len(batch) + 1) * most <= most_tokens:
                batch.append(row)
                shared, longest = common, most
                continue
            yield batch, shared
        batch, shared, longest = [row], row.first, length
    if batch:
        yield batch, shared


def _common(one: Tensor, other: Tensor) -> int:
    """How many first ids are the same."""
    length = min(len(one), len(other))
    different = (one[:length] != other[:length]).nonzero()
    return int(different[0]) if len(different) else length


def padded(rows: Sequence[Row]) -> Tokens:
    """The rows as a teacher is asked for them, one after the other."""
    ids = [row.ids for row in rows]
    counts = torch.tensor([row.count for row in rows])
    return Tokens(
        pad_sequence(ids, batch_first=True),
        pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        torch.arange(len(rows)).repeat_interleave(counts),
        torch.cat([torch.arange(row.first, row.last + 1) for row in rows]),
    )
