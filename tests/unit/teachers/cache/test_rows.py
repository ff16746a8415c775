"""Rows that a teacher will be asked for, each once, in batches that begin alike."""

from __future__ import annotations

from lit_unlearn.data.collation import tokens
from lit_unlearn.teachers.cache.rows import collect, in_batches, padded


def test_positions_asked_for_apart_are_kept_together() -> None:
    """The same ids with answers from 3 on (one token) and from 2 on (one token): 1 to 2."""
    asked = [tokens([[1, 5, 6, 7]], [start], [1], pad_id=0) for start in (3, 2)]
    rows = collect([*asked, asked[0]])
    assert [(row.first, row.last, row.count) for row in rows.values()] == [(1, 2, 2)]
    assert padded(list(rows.values())).columns.tolist() == [1, 2]


def test_batches_hold_few_enough_tokens() -> None:
    """Five rows of 4 tokens, 8 at a time; a row of 9 is more than that, and alone."""
    asked = [tokens([[n] * 4], [3], [1], pad_id=0) for n in range(5)]
    asked += [tokens([[9] * 9], [3], [1], pad_id=0)]
    batches = in_batches(collect(asked).values(), most_tokens=8)
    assert [[len(row.ids) for row in batch] for batch in batches] == [[4, 4], [4, 4], [4], [9]]
    assert not list(in_batches([], most_tokens=8))


def test_common_beginnings_count_once() -> None:
    """Three rows of 6 tokens with 4 in common: 6 + 2 + 2 = 10; a fourth without makes 16."""
    rows = [[1, 2, 3, 4, n, n] for n in (5, 6, 7)] + [[9] * 6]
    asked = [tokens([row], [4], [2], pad_id=0) for row in rows]
    sizes = [len(batch) for batch in in_batches(collect(asked).values(), most_tokens=10)]
    assert sizes == [3, 1]
    assert [len(b) for b in in_batches(collect(asked).values(), most_tokens=16)] == [4]
