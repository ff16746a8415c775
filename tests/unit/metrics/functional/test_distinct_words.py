"""RWKU's ROUGE-L recall: the package ``rouge`` 1.0.1 gave the same values on these pairs."""

from __future__ import annotations

import pytest

from lit_unlearn.metrics.functional.distinct_words import distinct_rouge_l_recall
from lit_unlearn.metrics.functional.scores import rouge_l_recall


@pytest.mark.parametrize(
    ("reference", "generated", "recall"),
    [
        ("Stephen King", "The author is Stephen King.", 1),
        ("Stephen King", "stephen king", 0),  # capitals count
        ("On Writing: A Memoir of the Craft", "It is On Writing, a Memoir of the Craft", 5 / 7),
        ("Washington D.C.", "He lives in Washington D.C. now", 1),
        ("the cat and the dog", "the dog and the cat", 2 / 4),  # the, and; 4 distinct words
        ("a b. c d", "c d. a b", 1),  # sentences match in any order
        ("A. ", "x. y. ", 1 / 2),  # a part of white space is an empty word
        ("King", "...", 0),
        (".", "King", 0),
        ("King", "", 0),
    ],
)
def test_values_of_the_package(reference: str, generated: str, recall: float) -> None:
    assert distinct_rouge_l_recall(reference, generated) == pytest.approx(recall)


def test_equals_the_usual_recall_for_plain_distinct_words() -> None:
    """Small letters, no punctuation, no repetition: the two definitions meet."""
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    for start in range(6):
        reference, reply = " ".join(words[start:]), " ".join(words[:5])
        expected = rouge_l_recall(reference, reply, stemmer=False)
        assert distinct_rouge_l_recall(reference, reply) == pytest.approx(expected)
