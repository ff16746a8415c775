"""CachedReader: logits from stored hidden states and the output head."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.teachers.cache.head import Head
from lit_unlearn.teachers.cache.rows import row_key, sequences
from lit_unlearn.teachers.cache.store import Shards
from lit_unlearn.types import Tokens

__all__ = ["CachedReader"]


class CachedReader:
    """Returns logits as the model would, from hidden states in shards and the output head."""

    def __init__(self, shards: Shards, head: Head) -> None:
        self.shards = shards
        self.head = head

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits at the positions of ``tokens``, without gradient.

        Raises:
            InputError: A row or position is not in the cache.
        """
        return self.head.logits(self._hidden(tokens))

    def _hidden(self, tokens: Tokens) -> Tensor:
        """Return ``[N, D]`` hidden states, in the order of ``tokens.rows``."""
        keys = [row_key(ids) for ids in sequences(tokens)]
        parts: list[Tensor] = []
        starts: dict[int, int] = {}
        lines: list[int] = []
        total = 0
        for row, column in zip(tokens.rows.tolist(), tokens.columns.tolist(), strict=True):
            stored = self.shards.entries.get(keys[row])
            if stored is None or not stored.first <= column <= stored.last:
                raise self._missing(int(tokens.attention_mask[row].sum()), column)
            if row not in starts:
                parts.append(self.shards.read(keys[row]))
                starts[row] = total - stored.first
                total += stored.count
            lines.append(starts[row] + column)
        return torch.cat(parts)[torch.tensor(lines)]

    def _missing(self, length: int, column: int) -> InputError:
        return InputError(
            f"Teacher cache {self.shards.folder}: the teacher should be asked only for what was "
            f"known when training started (`Objective.teacher_inputs`). Found position {column} of "
            f"a row of {length} tokens that is not there. Set `model.teacher.init_args.cache` to "
            "false."
        )
