"""Collation: masks from lengths, predictions aligned, padding without effect."""

from __future__ import annotations

import torch

from lit_unlearn.data.collation import collate
from lit_unlearn.types import EncodedExample

SHORT = EncodedExample("a", (5, 6, 0, 8), 2, (9, 5, 6, 0, 8), 3, 2)
LONG = EncodedExample("b", (1, 2, 3, 4, 7, 0), 4, (1, 2, 3, 4, 7, 0), 4, 2)
QUESTION = EncodedExample("c", (1, 2, 3), 3, (8, 1, 2, 3), 4, 0)


def test_masks_come_from_lengths() -> None:
    """The pad id 0 is a real token of both rows and stays visible."""
    batch = collate([[SHORT], [LONG]], pad_id=0)
    assert batch.student.attention_mask.sum(1).tolist() == [4, 6]
    assert batch.teacher.attention_mask.sum(1).tolist() == [5, 6]


def test_predictions_read_the_token_before() -> None:
    batch = collate([[SHORT], [LONG]], pad_id=0)
    assert batch.student.rows.tolist() == [0, 0, 1, 1]
    assert batch.student.columns.tolist() == [1, 2, 3, 4]
    assert batch.teacher.columns.tolist() == [2, 3, 3, 4]
    assert batch.target_ids is not None
    assert batch.target_ids.tolist() == [0, 8, 7, 0]
    assert batch.offsets.tolist() == [0, 1, 0, 1]
    following = batch.student.input_ids[batch.student.rows, batch.student.columns + 1]
    assert torch.equal(following, batch.target_ids)


def test_rows_without_answer() -> None:
    batch = collate([[QUESTION]], pad_id=0)
    assert batch.target_ids is None
    assert batch.student.columns.tolist() == [2]


def test_candidates_share_a_group() -> None:
    batch = collate([[SHORT, LONG], [LONG]], pad_id=0)
    assert batch.groups.tolist() == [0, 0, 1]
    assert batch.example_ids == ("a", "b", "b")


def test_selecting_rows_equals_collating_them() -> None:
    whole = collate([[SHORT], [LONG], [SHORT]], pad_id=0)
    chosen = whole.select_rows(torch.tensor([1, 2]))
    alone = collate([[LONG], [SHORT]], pad_id=0)
    assert torch.equal(chosen.student.rows, alone.student.rows)
    assert torch.equal(chosen.student.columns, alone.student.columns)
    assert chosen.target_ids is not None
    assert alone.target_ids is not None
    assert torch.equal(chosen.target_ids, alone.target_ids)
    assert chosen.example_ids == ("b", "a")


def test_first_positions() -> None:
    batch = collate([[SHORT], [LONG]], pad_id=0).first_positions(1)
    assert batch.target_ids is not None
    assert batch.target_ids.tolist() == [0, 7]
    assert batch.student.rows.tolist() == batch.teacher.rows.tolist() == [0, 1]
