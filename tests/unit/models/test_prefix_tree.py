"""Tests of the prefix tree: worked trees, and that every chain spells its sequence."""

from __future__ import annotations

import random

import pytest

from lit_unlearn.models.prefix_tree import PrefixTree, Segment, prefix_tree


def spelt(tree: PrefixTree, index: int) -> list[int]:
    return [i for segment in tree.chains[index] for i in tree.segments[segment].ids]


def test_worked_tree() -> None:
    """[1 2 3 4] and [1 2 5] share [1 2]; [9] stands alone: 2 + 2 + 1 + 1 tokens instead of 8."""
    tree = prefix_tree([[1, 2, 3, 4], [9], [1, 2, 5]], least_saved=1)
    assert tree.segments == (
        Segment((1, 2), 0, ()),
        Segment((3, 4), 2, (0,)),
        Segment((5,), 2, (0,)),
        Segment((9,), 0, ()),
    )
    assert tree.chains == ((0, 1), (3,), (0, 2))
    assert tree.tokens == 6


def test_beginning_of_another_sequence_stops_within_its_segment() -> None:
    """[1 2] is the beginning of [1 2 3 4], and [1 2 3 4 5] of nothing: 5 + 1 tokens are read."""
    tree = prefix_tree([[1, 2], [1, 2, 3, 4, 5], [1, 2], [1, 2, 3, 4], [1, 2, 3, 9]], 1)
    assert [segment.ids for segment in tree.segments] == [(1, 2, 3), (4, 5), (9,)]
    assert tree.chains == ((0,), (0, 1), (0,), (0, 1), (0, 2))


def test_short_beginning_is_read_twice() -> None:
    """One common token of two rows saves 1 token, below 2; the three common ones of two rows do."""
    rows = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 7]]
    tree = prefix_tree(rows, least_saved=3)
    assert [segment.ids for segment in tree.segments] == [(1, 2, 3), (4,), (5,), (1, 7)]


@pytest.mark.parametrize("seed", range(20))
def test_chains_spell_their_sequences(seed: int) -> None:
    draw = random.Random(seed)
    least = draw.choice([1, 4, 16])
    rows = [[draw.randrange(3) for _ in range(draw.randint(1, 40))] for _ in range(30)]
    rows += [rows[0][:5] + row for row in rows[:10]]
    tree = prefix_tree(rows, least_saved=least)
    assert all(spelt(tree, index)[: len(row)] == row for index, row in enumerate(rows))
    assert tree.tokens <= sum(map(len, {tuple(row): row for row in rows}.values()))
    for segment in tree.segments:
        before = [tree.segments[a] for a in segment.ancestors]
        assert segment.first == sum(len(a.ids) for a in before)
    shuffled = draw.sample(rows, len(rows))
    assert prefix_tree(shuffled, least_saved=least).segments == tree.segments


def test_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        prefix_tree([[1], []])
