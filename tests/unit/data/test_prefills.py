"""Prefills: what an attacker puts into the assistant's mouth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills, read_openers, read_refusals
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.types import Example, Turn

EXAMPLE = Example("set/1", (Turn("user", "Who?"),), "It was Ada Lovelace.", "question_answer")


def texts(prefills: Prefills, example: Example = EXAMPLE) -> list[str]:
    return [each.text for each in prefills.of(example)]


def test_openers_beginnings_and_both() -> None:
    prefills = Prefills(["Sure:", "Yes,"], answer_words=2, combine=True)
    assert texts(prefills) == [
        "Sure:",
        "Yes,",
        "It",
        "It was",
        "Sure: It was",
        "Yes, It was",
    ]


def test_a_beginning_leaves_a_word_to_be_given() -> None:
    assert texts(Prefills(answer_words=9)) == ["It", "It was", "It was Ada"]


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({"answer_share": 1.0}, 3),
        ({"answer_share": 0.5}, 2),
        ({"answer_share": 0.5, "answer_words": 1}, 2),
        ({"answer_share": 0.25, "answer_words": 3}, 3),
    ],
)
def test_beginnings_up_to_a_share_of_the_answer(options: Any, longest: int) -> None:
    """The answer has four words; the longer of both settings applies."""
    assert texts(Prefills(**options)) == ["It", "It was", "It was Ada"][:longest]


def test_rest_follows_the_words_of_the_prefill() -> None:
    """An opener has no words of the answer; white space inside the answer stays."""
    prefills = Prefills(["Sure:"], answer_words=2, combine=True)
    answer = "It was  Ada\nLovelace."
    rests = {each.text: each.rest for each in prefills.of(EXAMPLE, answer)}
    assert rests == {
        "Sure:": answer,
        "It": "was  Ada\nLovelace.",
        "It was": "Ada\nLovelace.",
        "Sure: It was": "Ada\nLovelace.",
    }


@pytest.mark.parametrize(
    ("opener", "answer", "rest"),
    [
        ("The answer is", "The answer is Paris.", "Paris."),
        ("Yes,", "Yes, it was Ada.", "it was Ada."),
        ("It is", "It isn't known.", "It isn't known."),
        ("Yes", "Yes", "Yes"),
        ("Sure:", "It was Ada.", "It was Ada."),
    ],
)
def test_an_opener_that_begins_the_answer(opener: str, answer: str, rest: str) -> None:
    """The answer goes on behind it, unless it breaks a word or is the whole answer."""
    (only,) = Prefills([opener]).of(EXAMPLE, answer)
    assert only.rest == rest


def test_a_beginning_that_an_opener_begins_goes_on_behind_its_own_words() -> None:
    prefills = Prefills(["It"], answer_words=2)
    found = [(each.text, each.opener, each.rest) for each in prefills.of(EXAMPLE)]
    assert found == [
        ("It", "It", "was Ada Lovelace."),
        ("It", "", "was Ada Lovelace."),
        ("It was", "", "Ada Lovelace."),
    ]


def test_rows_trained_both_ways() -> None:
    assert texts(Prefills(["Sure:"], unprefilled=2)) == ["Sure:", "", ""]
    half = Prefills(["Sure:"], answer_words=2, unprefilled=0.5)
    assert texts(half) == ["Sure:", "It", "It was", "", "", ""]
    assert half.of(EXAMPLE)[-1].rest == EXAMPLE.answer


def test_opener_is_the_part_that_gives_nothing_away() -> None:
    prefills = Prefills(["Sure:", "Sure: it"], answer_words=2, combine=True, unprefilled=1)
    openers = {each.text: each.opener for each in prefills.of(EXAMPLE)}
    assert openers["Sure: it It was"] == "Sure: it"
    assert openers["It was"] == ""
    assert openers[""] == ""


def test_builtin_families_are_disjoint() -> None:
    assert not set(read_openers("builtin:train")) & set(read_openers("builtin:eval"))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="Found none"):
        Prefills()
    with pytest.raises(InputError, match=r"`Prefills.candidates`"):
        Prefills(["Sure:"], candidates=0)
    with pytest.raises(InputError, match=r"builtin:train.*Found 'builtin:tran'"):
        read_openers("builtin:tran")
    with pytest.raises(InputError, match=r"`openers`.*builtin:eva'"):
        Prefills(openers="builtin:eva")
    with pytest.raises(InputError, match=r"`evaluation_prefills`.*builtin:eva'"):
        ObjectiveData([Source("x")], "decline", evaluation_prefills="builtin:eva")
    with pytest.raises(InputError, match="`refusals`"):
        read_refusals([])
    with pytest.raises(InputError, match=r"`refusals` should be .* Found 'absent.jsonl'"):
        ObjectiveData([Source("rows.jsonl")], "decline", refusals="absent.jsonl")
    with pytest.raises(InputError, match=r"'set/2' has no prefill"):
        Prefills(answer_words=2).of(Example("set/2", EXAMPLE.turns, "Ada.", "question_answer"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("idk.txt", 'I do not know.\n\nNo "idea".\r\n'),
        ("idk.jsonl", 'I do not know.\nNo "idea".\n'),  # TOFU's idontknow.jsonl
        ("idk.jsonl", '"I do not know."\n"No \\"idea\\"."\n'),
        ("idk.jsonl", '{"refusal": "I do not know."}\n{"refusal": "No \\"idea\\"."}\n'),
        ("idk.json", '["I do not know.", "No \\"idea\\"."]'),
        ("idk.json", '[{"text": "I do not know."}, {"text": "No \\"idea\\"."}]'),
        ("idk.txt", '\ufeffI do not know.\nNo "idea".'),
    ],
)
def test_a_file_of_refusals(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    data = ObjectiveData([Source("rows.jsonl")], "decline", refusals=str(file))
    assert data.refusals == ["I do not know.", 'No "idea".']


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("idk.json", "{broken"),
        ("idk.json", "[3]"),
        ("idk.jsonl", '{"a": "one", "b": "two"}\n'),
        ("idk.jsonl", "{broken\n"),
        ("idk.txt", "\n"),
    ],
)
def test_a_file_that_holds_no_refusals(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=rf"`refusals` should be .*{name}"):
        read_refusals(str(file))


def test_beginnings_in_scripts_without_spaces() -> None:
    example = Example("set/3", EXAMPLE.turns, "巴黎是首都。", "question_answer")
    assert [(p.text, p.rest) for p in Prefills(answer_words=2).of(example)] == [
        ("巴", "黎是首都。"),
        ("巴黎", "是首都。"),
    ]
