"""The trunk cache: frozen blocks read every training sequence once, not at every step.

What leaves the trunk (`lit_unlearn.models.trunk`) is stored by the segments of the sequences'
prefix tree, so that a common beginning is stored once: the model's width D times the bytes of its
dtype for each token of the tree. A segment is found by its first position and the token ids from
the sequence's start to the segment's end.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor, nn

from lit_unlearn.data.collation import tokens
from lit_unlearn.distributed.ranks import base_model, is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import fingerprint, weights_key
from lit_unlearn.models.forward import answer_logits, evaluating, same_up_to_rounding
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.packing import packable, rows_read
from lit_unlearn.models.prefix_tree import PrefixTree, prefix_tree
from lit_unlearn.models.trunk import trunk_digest, trunk_height, trunk_outputs
from lit_unlearn.teachers.cache.filling import cache_folder, fill_shards, locked_by_all
from lit_unlearn.teachers.cache.rows import row_key
from lit_unlearn.teachers.cache.store import Entry, Shards
from lit_unlearn.types import Tokens
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.progress import Stage, shown

__all__ = ["TrunkCache", "segment_key", "segment_keys", "trunk_cache", "trunk_name"]

_BATCH_TOKENS = 2**11
"""Tokens of the tree in one forward pass of a build: seconds, so that progress is seen."""
_SHARD_TOKENS = 2**16
"""Tokens of the tree in a shard; a build that is killed loses at most so many."""


class TrunkCache:
    """Stored outputs of the trunk, for sorted sequences with their prefix tree."""

    def __init__(
        self,
        shards: Shards,
        height: int,
        digest: str,
        tree: PrefixTree,
        rows: Sequence[tuple[int, ...]],
    ) -> None:
        self.shards, self.height, self._digest = shards, height, digest
        self._rows, self._tree, self._keys = rows, tree, segment_keys(tree)

    def __deepcopy__(self, memo: dict[int, object]) -> "TrunkCache":
        """Return the cache itself: copies of a training module share it."""
        return self

    def belongs_to(self, model: nn.Module) -> bool:
        """Return whether a model has the weights of this trunk, in the same dtype."""
        return trunk_digest(base_model(model), self.height) == self._digest

    def holds(self, row: Sequence[int]) -> bool:
        """Return whether what leaves the trunk for a sequence is stored."""
        return self._place(tuple(row)) is not None

    def _place(self, row: tuple[int, ...]) -> int | None:
        """Return the index of a stored sequence that begins with this one, or None."""
        at = bisect_left(self._rows, row)
        return at if at < len(self._rows) and self._rows[at][: len(row)] == row else None

    def states(self, rows: Sequence[Sequence[int]]) -> list[Tensor] | None:
        """Return what leaves the trunk for each sequence, ``[T, D]``; None if one is not stored.

        The beginning of a stored sequence is stored, too.
        """
        chains = []
        for row in map(tuple, rows):
            at = self._place(row)
            if at is None:
                return None
            chain, segments = self._tree.chains[at], self._tree.segments
            chains.append([s for s in chain if segments[s].first < len(row)])
        read = {s: self.shards.read(self._keys[s]) for chain in chains for s in chain}
        return [
            torch.cat([read[s] for s in chain])[: len(row)]
            for row, chain in zip(rows, chains, strict=True)
        ]


def trunk_cache(
    student: nn.Module,
    source: ModelSource,
    setting: Literal["auto"] | bool,
    requests: Iterable[Tokens],
    console: Console,
) -> TrunkCache | None:
    """Fill the trunk cache of a run with all sequences that training will read.

    All processes call this alike, for the student with its start weights. ``setting`` is
    `model.student.cache_trunk`. The result is None where that is false, or `auto` where there is no
    constant trunk.

    Raises:
        InputError: The setting is true, and there is no constant trunk; the disk is too small, or
            the folder is damaged.
    """
    height, reason = (0, "") if setting is False else trunk_height(student)
    if is_sharded(student):
        height, reason = 0, "the student is sharded"
    elif source.noise is not None:
        height, reason = 0, "the start weights get noise"
    if height == 0:
        if setting is True:
            raise InputError(
                f"Parameter `model.student.cache_trunk` should be auto or false: {reason}. "
                "Found true."
            )
        return None
    with shown(Stage("trunk cache: collecting sequences", None)):
        rows = sorted({tuple(ids) for one in requests for ids in rows_read(one)})
    if not rows or not packable(student, max(map(len, rows))):
        return None
    # the weights themselves, since a checkpoint may have brought others than the source's
    digest = trunk_digest(base_model(student), height)
    weights = (digest, next(student.parameters()).dtype, height)
    model = (fingerprint(source.path, source.revision), source.attention)
    name = trunk_name(source, height, weights[1])
    folder = cache_folder(user_cache() / "trunk", (*weights, *model))
    tree = prefix_tree(rows)
    shards = Shards(folder, name, "Trunk cache", "model.student.cache_trunk")
    cache = TrunkCache(shards, height, digest, tree, rows)
    with locked_by_all(shards):
        new = _read(student, cache, tree, rows, console)
        shards.refresh()
        _check(student, cache, rows)
    console.print(
        f"Trunk cache: {tree.tokens} tokens below block {height} of {len(rows)} sequences, of "
        f"which {new} new, in {folder} ({decimal(shards.size())})",
        soft_wrap=True,
    )
    return cache


def trunk_name(source: ModelSource, height: int, dtype: torch.dtype) -> str:
    """Return the name of a trunk, by which its cache is found before the weights are loaded."""
    about, kind = text_digest(repr(weights_key(source)))[:16], str(dtype).removeprefix("torch.")
    return f"{source.path} ({about}), {height} blocks in {kind}"


def segment_keys(tree: PrefixTree) -> list[bytes]:
    """Return the key of each segment: where it begins, and the ids from the sequence's start.

    Another set of sequences may split the same ids elsewhere.
    """
    keys = []
    for segment in tree.segments:
        before = [i for ancestor in segment.ancestors for i in tree.segments[ancestor].ids]
        keys.append(segment_key(segment.first, (*before, *segment.ids)))
    return keys


def segment_key(first: int, ids: Sequence[int]) -> bytes:
    """Return the key of the segment from a position on to the end of token ids."""
    return row_key(torch.tensor((first, *ids)))


def _read(
    student: nn.Module,
    cache: TrunkCache,
    tree: PrefixTree,
    rows: Sequence[tuple[int, ...]],
    console: Console,
) -> int:
    """Run the trunk for segments that are not stored yet; return the number of new tokens."""
    keys, shards = segment_keys(tree), cache.shards
    missing = {index for index, key in enumerate(keys) if key not in shards.entries}
    new = sum(len(tree.segments[index].ids) for index in missing)

    def entries(batch: list[int], outputs: Sequence[Tensor]) -> tuple[list[Entry], int]:
        found = []
        for row, states in zip(batch, outputs, strict=True):
            for index in missing.intersection(tree.chains[row]):
                first, length = tree.segments[index].first, len(tree.segments[index].ids)
                found.append(Entry(keys[index], first, states[first : first + length]))
                missing.discard(index)
        read = sum(len(entry.hidden) for entry in found)
        stage.add(read)
        return found, read

    with shown(Stage("trunk cache", new, "tokens"), console) as stage:
        fill_shards(
            shards,
            student,
            list(_batches(tree, missing)),
            lambda batch: trunk_outputs(student, cache.height, _padded([rows[r] for r in batch])),
            entries,
            new,
            _SHARD_TOKENS,
            console,
        )
    return new


def _batches(tree: PrefixTree, missing: set[int]) -> Iterator[list[int]]:
    """Yield batches of rows that cover the missing segments; rows of a batch begin alike.

    The order is reversed, so that a row comes before its own beginnings.
    """
    batch: list[int] = []
    covered: set[int] = set()
    inside: set[int] = set()
    for row, chain in reversed([*enumerate(tree.chains)]):
        if not (missing - covered).intersection(chain):
            continue
        size = sum(len(tree.segments[index].ids) for index in inside.union(chain))
        if batch and size > _BATCH_TOKENS:
            yield batch
            batch, inside = [], set()
        batch.append(row)
        inside.update(chain)
        covered.update(chain)
    if batch:
        yield batch


def _padded(rows: Sequence[tuple[int, ...]]) -> Tokens:
    """Return rows as one batch, with the last position of each."""
    return tokens(rows, [*map(len, rows)], [1] * len(rows), pad_id=0)


def _check(student: nn.Module, cache: TrunkCache, rows: Sequence[tuple[int, ...]]) -> None:
    """Check on one sequence that passes that start above the trunk give the model's logits."""
    one = _padded([min(rows, key=len)]).to(next(student.parameters()).device)
    # without dropout above the trunk, which a resumed student's adapters would notice
    with torch.no_grad(), evaluating(student):
        whole, above = answer_logits(student, one), answer_logits(student, one, trunk=cache)
    if not same_up_to_rounding(above, whole):
        raise InputError(
            f"Trunk cache {cache.shards.folder}: the stored states should come from this model. "
            "Found others. Delete the folder, or set `model.student.cache_trunk` to false."
        )
