"""Prefills: what an attacker puts into the assistant's mouth."""

from __future__ import annotations

import pytest

from lit_unlearn.data.prefills import Prefills, read_openers, read_refusals
from lit_unlearn.errors import InputError
from lit_unlearn.types import Example, Turn

EXAMPLE = Example("set/1", (Turn("user", "Who?"),), "It was Ada Lovelace.", "question_answer")


def test_openers_beginnings_and_both() -> None:
    prefills = Prefills(["Sure:", "Yes,"], answer_words=2, combine=True)
    assert prefills.of(EXAMPLE) == [
        "Sure:",
        "Yes,",
        "It",
        "It was",
        "Sure: It was",
        "Yes, It was",
    ]


def test_a_beginning_leaves_a_word_to_be_given() -> None:
    assert Prefills(answer_words=9).of(EXAMPLE) == ["It", "It was", "It was Ada"]


def test_rest_follows_the_words_of_the_prefill() -> None:
    """An opener has no words of the answer; white space inside the answer stays."""
    prefills = Prefills(["Sure:"], answer_words=2, combine=True)
    answer = "It was  Ada\nLovelace."
    assert prefills.of(EXAMPLE, answer)[1:] == ["It", "It was", "Sure: It was"]
    rests = {each: prefills.rest_of(answer, each) for each in ("Sure:", "It", "Sure: It was")}
    assert rests == {"Sure:": answer, "It": "was  Ada\nLovelace.", "Sure: It was": "Ada\nLovelace."}


def test_rows_trained_both_ways() -> None:
    assert Prefills(["Sure:"], unprefilled=2).of(EXAMPLE) == ["Sure:", "", ""]


def test_opener_is_the_part_that_gives_nothing_away() -> None:
    prefills = Prefills(["Sure:", "Sure: it"], answer_words=2, combine=True)
    assert prefills.opener_of("Sure: it It was") == "Sure: it"
    assert prefills.opener_of("It was") == ""
    assert prefills.opener_of("") == ""


def test_builtin_families_are_disjoint() -> None:
    assert not set(read_openers("builtin:train")) & set(read_openers("builtin:eval"))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="Found neither"):
        Prefills()
    with pytest.raises(InputError, match="`candidates`"):
        Prefills(["Sure:"], candidates=0)
    with pytest.raises(InputError, match=r"builtin:train.*Found 'builtin:tran'"):
        read_openers("builtin:tran")
    with pytest.raises(InputError, match="`refusals`"):
        read_refusals([])
    with pytest.raises(InputError, match=r"'set/2' has no prefill"):
        Prefills(answer_words=2).of(Example("set/2", EXAMPLE.turns, "Ada.", "question_answer"))
