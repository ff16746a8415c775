"""Recall: the part of an answer that the prompt does not give away."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.suites.recall import (
    load_targets,
    not_given,
    recall,
    recall_note,
    target_of,
)
from lit_unlearn.types import Example, Turn

NOVEL = Example(
    "set/1", (Turn("user", "Who wrote it?"),), "Victor Hugo wrote it.", "question_answer"
)
ACCEPTING = Example(
    "set/2",
    (Turn("user", "Who wrote it?"),),
    "It was Victor Hugo.",
    "question_answer",
    accepted=("Victor Hugo",),
)


@pytest.mark.parametrize(
    ("gold", "prefill", "rest"),
    [
        ("It is Paris", "", "It is Paris"),
        ("It is Paris", "Of course! It is", "Paris"),
        ("It is Paris", "it IS", "Paris"),
        ("It is Paris", "It is what it", "is Paris"),
        ("It is Paris", "Paris", "It is Paris"),
        ("It is Paris", "I say: It is Paris", ""),
        ("a b a b c", "a b a b", "c"),
    ],
)
def test_the_rest_is_what_the_prefill_does_not_give(gold: str, prefill: str, rest: str) -> None:
    assert not_given(gold, prefill) == rest


def test_given_words_earn_nothing() -> None:
    """Of "Victor Hugo wrote it." after "Victor Hugo", two words remain; the reply has one."""
    target = target_of(NOVEL, "Victor Hugo")
    assert target is not None
    assert target.recall("Victor Hugo Victor Hugo", "Victor Hugo") == 0.0
    assert target.recall("painted it", "Victor Hugo") == 0.5


def test_an_accepted_answer_may_begin_in_the_prefill() -> None:
    target = target_of(ACCEPTING, "It was Victor")
    assert target is not None
    assert target.recall("Hugo.", "It was Victor") == 1.0
    assert target.recall("Horta.", "It was Victor") == 0.0


def test_a_prefill_with_an_accepted_answer_gives_all_away() -> None:
    assert target_of(ACCEPTING, "Surely Victor Hugo") is None


def test_accepted_answers_in_the_question_do_not_count() -> None:
    row = Example(
        "set/3",
        (Turn("user", "What else was Louis XIV called?"),),
        "He was called the Sun King.",
        "question_answer",
        accepted=("Louis XIV", "Sun King"),
    )
    assert recall(row, "Louis XIV") == 0.0
    assert recall(row, "the Sun King") == 1.0


def test_rows_without_anything_to_recall(tmp_path: Path) -> None:
    answerless = Example("set/4", (Turn("user", "Why?"),), "", "question_answer")
    assert math.isnan(recall(answerless, "Because."))
    rows = [{"question": "Is Paris a city?", "answer": "Paris", "accepted": ["city"]}]
    rows += [{"question": "Why?", "answer": "So."}]
    for count, name in enumerate(("none", "one"), start=1):
        text = "\n".join(json.dumps(row) for row in rows[:count])
        (tmp_path / f"{name}.jsonl").write_text(text)
    sources = [Source(str(tmp_path / "one.jsonl"), domain="question_answer")]
    assert [row.question for row in load_targets(sources, None, "x")] == ["Why?"]
    sources = [Source(str(tmp_path / "none.jsonl"), domain="question_answer")]
    with pytest.raises(InputError, match=r"suite x should have rows with an answer.*none of 1"):
        load_targets(sources, None, "x")


def test_the_note_says_how_recall_was_decided() -> None:
    assert recall_note([ACCEPTING]) == "by accepted answers"
    assert recall_note([NOVEL]) == "by ROUGE-L recall"
    assert recall_note([NOVEL, ACCEPTING]) == "by ROUGE-L recall (1 rows by accepted answers)"
