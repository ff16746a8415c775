"""Rows that are held out, and the batches that processes share."""

from __future__ import annotations

import pytest
import torch

from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.data.validation_rows import ValidationBatches, ValidationRow, hold_out
from lit_unlearn.errors import InputError
from lit_unlearn.types import EncodedExample, Example, Tokens, Turn


def rows(source: str, *questions: str) -> list[Example]:
    return [
        Example(f"{source}/{n}", (Turn("user", text),), "A", "question_answer")
        for n, text in enumerate(questions)
    ]


def test_no_objective_trains_on_a_question_that_another_holds_out() -> None:
    """A quarter of ten questions is 2; of the same questions the same, however they are written."""
    asked = [f"Who is number {n}?" for n in range(10)]
    examples = {
        "forget": rows("a", *asked),
        "prefilled": rows("b", *(text.upper() for text in asked)),
        "retain": rows("c", "What else?", asked[0], *asked),
    }
    kept, held = hold_out(examples, {"forget": 0.25, "prefilled": 0.25}, seed=3)
    assert list(held) == ["forget", "prefilled"]
    numbers = [[examples[n].index(row) for row in held[n]] for n in held]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) == 2
    gone = {text.casefold() for text in (row.question for row in held["forget"])}
    for name, own in kept.items():
        wanted = [row for row in examples[name] if row.question.casefold() not in gone]
        assert own == wanted
    assert hold_out(examples, {"forget": 0.25}, seed=3)[1]["forget"] == held["forget"]
    assert any(hold_out(examples, {"forget": 0.25}, seed=s)[1] != held for s in range(5))


def test_at_least_one_row_is_held_out_and_one_is_left() -> None:
    one = {"forget": rows("a", "Q"), "retain": rows("b", "R", "S")}
    assert len(hold_out(one, {"retain": 0.01}, 0)[1]["retain"]) == 1
    with pytest.raises(InputError, match=r"'forget' should keep rows to train on\. Found all 1"):
        hold_out(one, {"forget": 0.5}, 0)


@pytest.mark.parametrize("given", [0.0, 1.0, -0.1, float("nan"), []])
def test_what_cannot_be_held_out_is_refused(given: list[Source] | float) -> None:
    with pytest.raises(InputError, match="`validation` of an objective's data should be sources"):
        ObjectiveData([Source("builtin:forget")], "decline", validation=given)


def encoded(number: int) -> EncodedExample:
    ids = (1, 2, 3, *range(4, 5 + number))
    return EncodedExample(f"r/{number}", ids, 3, ids, 3, len(ids) - 3)


def test_processes_share_the_batches_of_one() -> None:
    """Five rows in batches of two: in the last one the second process borrows the only row."""
    found = [
        ValidationRow(rows("r", "Q")[0], [encoded(n)], encoded(n) if n != 1 else None)
        for n in range(5)
    ]
    alone = ValidationBatches("forget", found, 2, 0)
    shared = [ValidationBatches("forget", found, 2, 0, rank=r, world=2) for r in (0, 1)]
    assert [len(batches) for batches in (alone, *shared)] == [3, 3, 3]
    for number, whole in enumerate(alone):
        parts = [batches[number] for batches in shared]
        own = [part for part in parts if not part.rows.borrowed]
        assert [i for part in own for i in part.rows.example_ids] == [*whole.rows.example_ids]
        gold = [i for part in parts if part.gold for i in part.gold.example_ids]
        assert gold == [*(whole.gold.example_ids if whole.gold else ())]
    assert shared[1][2].rows.borrowed
    assert shared[1][2].rows.example_ids == ("r/4",)


def test_joined_inputs_keep_their_predictions() -> None:
    places = torch.tensor([[0], [1]]), torch.tensor([[0, 0], [1, 2]])
    short = Tokens(torch.tensor([[5, 6]]), torch.ones(1, 2).long(), *places[0])
    long = Tokens(torch.tensor([[7, 8, 9]]), torch.ones(1, 3).long(), *places[1])
    both = short.joined(long)
    assert both.input_ids.tolist() == [[5, 6, 0], [7, 8, 9]]
    assert both.attention_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert both.input_ids[both.rows, both.columns].tolist() == [6, 8, 9]
