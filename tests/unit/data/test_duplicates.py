"""Duplicates between sets that must be forgotten and sets that must be kept."""

from __future__ import annotations

from pathlib import Path

from lit_unlearn.data.duplicates import describe, find_duplicates, normalise
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.types import Example, Turn


def example(example_id: str, question: str, answer: str = "x") -> Example:
    return Example(example_id, (Turn("user", question),), answer, "question_answer")


def test_normal_form() -> None:
    assert normalise("Who  wrote\n'It'?") == normalise("who wrote it")
    assert normalise("Stra\u00dfe") == normalise("STRASSE")
    assert normalise("Don\u00b4t") == normalise("don't")
    assert normalise("C++") != normalise("C")
    assert normalise("???") == "???"


def test_duplicates_are_between_groups_only() -> None:
    rows = {
        "forget": [example("f/0", "Who is it?"), example("f/1", "Who is it?")],
        "retain": [example("r/0", "Where?"), example("r/1", "who is IT")],
        "neighbor": [example("n/0", "When?")],
    }
    assert find_duplicates(rows) == {"Who is it?": {"forget": ["f/0", "f/1"], "retain": ["r/1"]}}
    assert find_duplicates({}) == {}


def test_raw_passages_are_compared_by_their_text() -> None:
    rows = {
        "forget": [example("f/0", "", "One text.")],
        "retain": [example("r/0", "", "Another."), example("r/1", "", "one text")],
    }
    assert find_duplicates(rows) == {"One text.": {"forget": ["f/0"], "retain": ["r/1"]}}


def test_description_leaves_out_groups_of_the_same_kind() -> None:
    """Forget and adversarial share "A"; "B" is in all three; "C" is in both kept sets."""
    rows = {
        "retain": [example("r/0", "B?"), example("r/1", "C?")],
        "forget": [example("f/0", "A?"), example("f/1", "B?")],
        "adversarial": [example("a/0", "A?"), example("a/1", "B?")],
        "neighbor": [example("n/0", "C?")],
    }
    duplicates = find_duplicates(rows)
    assert len(duplicates) == 3
    text = describe(duplicates, ["forget", "adversarial"])
    assert text.startswith("1 question is both to be forgotten and to be kept ")
    assert "(1 in forget and retain, 1 in adversarial and retain)" in text
    assert "'B?' (r/0, f/1, a/1)" in text
    assert "\n" not in text
    assert describe(duplicates, []) == ""
    assert describe({}, ["forget"]) == ""


def test_description_shows_three_of_many() -> None:
    rows = {
        "forget": [example(f"f/{n}", f"Q{n}?") for n in range(5)],
        "retain": [example(f"r/{n}", f"Q{n}?") for n in range(5)],
    }
    text = describe(find_duplicates(rows), ["forget"])
    assert text.startswith("5 questions are both")
    assert "'Q2?'" in text
    assert "'Q3?'" not in text
    assert " and 2 more. Remove" in text


def test_real_splits_of_tofu(benchmark_data: Path) -> None:
    """full holds rows of forget10 and of retain90, which have none in common."""
    names = ("full", "forget10", "retain90")
    rows = {name: load_examples([Source("locuslab/TOFU", name)], benchmark_data) for name in names}
    with_full = find_duplicates({name: rows[name] for name in ("forget10", "full")})
    known = {example.question for example in rows["full"]}
    shared = sum(example.question in known for example in rows["forget10"])
    assert shared >= 100
    assert sum(len(by_group["forget10"]) for by_group in with_full.values()) == shared
    assert find_duplicates({name: rows[name] for name in ("forget10", "retain90")}) == {}
