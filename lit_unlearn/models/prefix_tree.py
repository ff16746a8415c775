"""Prefix tree of token sequences, which stores their common beginnings once.

A tree has *segments*. A segment is a piece of one or more sequences; a sequence is a chain of
segments from a root downwards. A sequence that another sequence begins with may end inside a
segment. A forward pass over all segments (`packing`) gives every token the hidden state that it
has in a pass over its sequence alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

__all__ = ["PrefixTree", "Segment", "prefix_tree", "separate"]

LEAST_SAVED = 16
"""Tokens that a split must save; each further segment costs a call of attention."""


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens that one or more sequences have in common."""

    ids: tuple[int, ...]
    first: int
    """Position of its first token in the sequence."""
    ancestors: tuple[int, ...]
    """Indices of the segments before it, from the root down."""


@dataclass(frozen=True)
class PrefixTree:
    """Segments, each after its ancestors, and the chain of every sequence."""

    segments: tuple[Segment, ...]
    chains: tuple[tuple[int, ...], ...]
    """Indices of each sequence's segments, in order; the last may extend beyond its end."""

    @property
    def starts(self) -> list[int]:
        """Start of each segment among all tokens, followed by the number of tokens."""
        return [0, *accumulate(len(segment.ids) for segment in self.segments)]

    @property
    def tokens(self) -> int:
        """Number of tokens in all segments."""
        return sum(len(segment.ids) for segment in self.segments)


def prefix_tree(sequences: Sequence[Sequence[int]], least_saved: int = LEAST_SAVED) -> PrefixTree:
    """Build the prefix tree of token sequences without padding; equal ones share all segments.

    A beginning is shared if that saves at least ``least_saved`` tokens. No sequence may be empty.
    """
    if not all(len(ids) for ids in sequences):
        raise ValueError("Parameter `sequences` should hold no empty sequence. Found one.")
    known = sorted({tuple(ids) for ids in sequences})
    unique = [ids for ids, after in pairwise([*known, ()]) if not _begins(after, ids)]
    segments, chains = _tree(unique, max(1, least_saved))
    for ids, after in reversed([*pairwise(known)]):
        if _begins(after, ids):
            chains[ids] = tuple(s for s in chains[after] if segments[s].first < len(ids))
    return PrefixTree(tuple(segments), tuple(chains[tuple(ids)] for ids in sequences))


def _tree(
    unique: Sequence[tuple[int, ...]], least_saved: int
) -> tuple[list[Segment], dict[tuple[int, ...], tuple[int, ...]]]:
    """Return the segments, and the chain of each of the sorted sequences."""
    segments: list[Segment] = []
    chains: dict[tuple[int, ...], tuple[int, ...]] = {}

    def add(ids: tuple[int, ...], first: int, ancestors: tuple[int, ...]) -> tuple[int, ...]:
        segments.append(Segment(ids, first, ancestors))
        return (*ancestors, len(segments) - 1)

    # (low, high, start, looked, chain): unique[low:high] share [:start], held by `chain`, and are
    # known to share [:looked]
    open_groups: list[tuple[int, int, int, int, tuple[int, ...]]] = []
    if unique:
        open_groups.append((0, len(unique), 0, 0, ()))
    while open_groups:
        low, high, start, looked, chain = open_groups.pop()
        row = unique[low]
        if high - low == 1:
            chains[row] = add(row[start:], start, chain)
            continue
        common = _common(row, unique[high - 1], looked)
        groups = _groups(unique, low, high, common)
        if (common - start) * (len(groups) - 1) >= least_saved:
            chain, start = add(row[start:common], start, chain), common
        open_groups += [(a, b, start, common, chain) for a, b in reversed(groups)]
    return segments, chains


def _begins(longer: tuple[int, ...], ids: tuple[int, ...]) -> bool:
    return longer[: len(ids)] == ids


def separate(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Build the tree that shares nothing: each sequence, even a repeated one, is a segment."""
    segments = tuple(Segment(tuple(ids), 0, ()) for ids in sequences)
    return PrefixTree(segments, tuple((index,) for index in range(len(segments))))


def _common(one: tuple[int, ...], other: tuple[int, ...], known: int) -> int:
    """Return the length of the common beginning; the first ``known`` ids are known to be equal."""
    length = min(len(one), len(other))
    while known < length and one[known] == other[known]:
        known += 1
    return known


def _groups(rows: Sequence[tuple[int, ...]], low: int, high: int, at: int) -> list[tuple[int, int]]:
    """Split sorted rows with ``at`` common ids by the next id; a row without one is a group."""
    found, begin = [], low
    for index in range(low + 1, high + 1):
        if index == high or rows[index][at : at + 1] != rows[begin][at : at + 1]:
            found.append((begin, index))
            begin = index
    return found
