"""Batches of equal numbers of answer tokens."""

from __future__ import annotations

import pytest
import torch

from lit_unlearn.data.collation import collate
from lit_unlearn.data.mixing import Draw
from lit_unlearn.errors import InputError
from lit_unlearn.interference_study.batches import Batches, BatchStream, Rows, cut
from lit_unlearn.types import EncodedExample

LENGTHS = {"forget": [3, 5, 2], "retain": [40]}


def encoded(name: str, index: int) -> EncodedExample:
    ids = tuple(range(1, 3 + LENGTHS[name][index]))
    return EncodedExample(f"{name}/{index}", ids, 2, (7, *ids), 3, LENGTHS[name][index])


def collated(drawn: dict[str, list[Draw]]) -> Batches:
    """Two rows to a micro batch."""
    rows = {n: [[encoded(n, d.index)] for d in draws] for n, draws in drawn.items()}
    return {
        n: [collate(found[i : i + 2], 0) for i in range(0, len(found), 2)]
        for n, found in rows.items()
    }


@pytest.mark.parametrize("tokens", [1, 4, 10, 41])
def test_every_objective_has_so_many_answer_tokens(tokens: int) -> None:
    stream = BatchStream(Rows(LENGTHS, collated, seed=1), tokens)
    for _ in range(4):
        batch = stream.batch()
        for parts in batch.values():
            assert sum(len(part.offsets) for part in parts) == tokens
            for part in parts:
                assert part.target_ids is not None
                assert len(part.target_ids) == len(part.teacher.rows) == len(part.offsets)
                assert set(part.student.rows.tolist()) == set(range(len(part)))  # no row is empty


def test_batches_go_on_where_the_last_one_ended() -> None:
    stream = BatchStream(Rows(LENGTHS, collated), 10)  # all rows of forget
    ids = [i for part in stream.batch()["forget"] for i in part.example_ids]
    assert sorted(ids) == ["forget/0", "forget/1", "forget/2"]
    stream.batch()
    assert stream.visits() == {"forget": 2.0, "retain": 2.0}


def test_cut_keeps_the_beginning_of_the_last_answer() -> None:
    whole = collate([[encoded("forget", 0)], [encoded("forget", 1)]], 0)
    found = cut(whole, 2)
    assert found.offsets.tolist() == [0, 1, 2, 0, 1]
    assert torch.equal(found.student.rows, torch.tensor([0, 0, 0, 1, 1]))


def test_no_rows() -> None:
    with pytest.raises(InputError, match=r"data\.objectives\.forget: expected usable rows"):
        BatchStream(Rows({"forget": []}, collated), 1)
