"""Rows that a teacher must read: each once, in batches of rows with common first tokens."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_unlearn.types import Tokens

__all__ = ["Row", "collect", "in_batches", "padded", "row_key", "sequences"]


@dataclass(frozen=True)
class Row:
    """One row, and the positions at which the teacher must predict."""

    ids: Tensor
    """``[T]``, int64, on the CPU, without padding."""
    first: int
    """The first position; all from here to `last` are stored."""
    last: int

    @property
    def key(self) -> bytes:
        """The 16 bytes under which the row is stored."""
        return row_key(self.ids)

    @property
    def count(self) -> int:
        """Number of positions."""
        return self.last - self.first + 1

    def widened(self, first: int, last: int) -> "Row":
        """Return the row with these positions added."""
        return replace(self, first=min(self.first, first), last=max(self.last, last))


def row_key(ids: Tensor) -> bytes:
    """Return a digest of 16 bytes of a row's token ids (``[T]``, int64, on the CPU)."""
    return hashlib.blake2b(ids.numpy().tobytes(), digest_size=16).digest()


def sequences(tokens: Tokens) -> list[Tensor]:
    """Return each row's ids (``[T]``) on the CPU, without the padding on the right."""
    lengths = tokens.attention_mask.sum(-1).tolist()
    return [i[:n].contiguous() for i, n in zip(tokens.input_ids.cpu(), lengths, strict=True)]


def collect(requests: Iterable[Tokens]) -> dict[bytes, Row]:
    """Return every row of the requests once, by its key, with all its positions."""
    rows: dict[bytes, Row] = {}
    for tokens in requests:
        for index, ids in enumerate(sequences(tokens)):
            columns = tokens.columns[tokens.rows == index]
            if not len(columns):
                continue
            first, last, key = int(columns.min()), int(columns.max()), row_key(ids)
            rows[key] = rows.get(key, Row(ids.clone(), first, last)).widened(first, last)
    return rows


def in_batches(rows: Iterable[Row], most_tokens: int) -> Iterator[list[Row]]:
    """Yield batches of rows sorted by their ids, so that rows of a batch share beginnings.

    A batch has at most ``most_tokens``; common beginnings of neighbours count once. A longer row
    is a batch by itself.
    """
    batch: list[Row] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: row.ids.tolist()):
        own = len(row.ids) - (_common(batch[-1].ids, row.ids) if batch else 0)
        if batch and tokens + own > most_tokens:
            yield batch
            batch, tokens, own = [], 0, len(row.ids)
        batch.append(row)
        tokens += own
    if batch:
        yield batch


def _common(one: Tensor, other: Tensor) -> int:
    """Return the length of the common beginning."""
    length = min(len(one), len(other))
    different = (one[:length] != other[:length]).nonzero()
    return int(different[0]) if len(different) else length


def padded(rows: Sequence[Row]) -> Tokens:
    """Return the rows as one padded batch."""
    ids = [row.ids for row in rows]
    counts = torch.tensor([row.count for row in rows])
    return Tokens(
        pad_sequence(ids, batch_first=True),
        pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        torch.arange(len(rows)).repeat_interleave(counts),
        torch.cat([torch.arange(row.first, row.last + 1) for row in rows]),
    )
