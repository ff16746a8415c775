"""Passages to questions: where sentences end, where a text is cut, what is blanked out."""

from __future__ import annotations

from lit_unlearn.data.passages import clozes, continuation, sentences

PASSAGE = (
    "Dr. J. K. Lindqvist was born in Uppsala in Sweden. She kept 40 bees as a child. "
    "Her first novel was about patience and honey. It sold well."
)


def test_sentences_do_not_end_at_abbreviations() -> None:
    assert sentences(PASSAGE) == [
        "Dr. J. K. Lindqvist was born in Uppsala in Sweden.",
        "She kept 40 bees as a child.",
        "Her first novel was about patience and honey.",
        "It sold well.",
    ]
    assert sentences('He said "No." Then he left.') == ['He said "No."', "Then he left."]
    assert sentences("  ") == []


def test_continuation_is_cut_at_the_sentence_nearest_the_middle() -> None:
    """Lengths 50, 28, 45, 13: a cut after two gives 79 + 59, after one 50 + 88, after three 125."""
    first, rest = continuation(PASSAGE) or ("", "")
    assert first.endswith("as a child.")
    assert rest.startswith("Her first novel")
    assert continuation("one two three four five six") == ("one two three", "four five six")
    assert continuation("one two three four five") is None


def test_clozes_prefer_names_then_numbers_then_long_words() -> None:
    """Sentence 1 has names (the longest wins), 2 the number 40, 3 only words; two are taken."""
    first, second = clozes(PASSAGE)
    assert first.question == "Fill in the blank: Dr. J. K. ____ was born in Uppsala in Sweden."
    assert first.answer == "Lindqvist"
    assert second.question == "Fill in the blank: She kept ____ bees as a child."
    assert second.answer == "40"
    (third,) = clozes("Her first novel was about patience and honey.")
    assert third.question == "Fill in the blank: Her first novel was about ____ and honey."


def test_a_blank_never_leaves_its_answer_in_the_sentence() -> None:
    (cloze,) = clozes("We met Annabel because Annabel always came early on Monday.")
    assert cloze.answer == "Monday"
    assert clozes("Too short a text.") == []
