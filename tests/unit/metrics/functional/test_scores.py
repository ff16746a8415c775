"""Tests of `lit_unlearn.metrics.functional.scores`: worked values, and the published TOFU log."""

# ruff: noqa: RUF001 - full-width punctuation of other scripts

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.scores import (
    distinct_rouge_l_recall,
    is_correct,
    repetition,
    rouge_l_f1,
    rouge_l_recall,
)

# ------------------------------------------------------------------------------------ ROUGE-L


def test_rouge_l_worked_by_hand() -> None:
    """Reference "the cat sat on the mat" (6 words), reply "the cat lay on a mat there" (7).

    Longest common subsequence: the cat on mat = 4. Recall 4/6, precision 4/7,
    F1 = 2 * (4/6) * (4/7) / (4/6 + 4/7) = 8/13.
    """
    reference, generated = "the cat sat on the mat", "The cat lay on a mat, there!"
    assert rouge_l_recall(reference, generated) == pytest.approx(4 / 6)
    assert rouge_l_f1(reference, generated) == pytest.approx(8 / 13)


def test_rouge_l_recall_ignores_what_is_said_besides() -> None:
    assert rouge_l_recall("in Lima", "She was born in Lima in the year 1961") == 1.0
    assert rouge_l_f1("in Lima", "in Lima") == 1.0


def test_stemmer_joins_inflected_words() -> None:
    """walking -> walk, walked -> walk with Porter stems; no word in common without."""
    assert rouge_l_recall("walking", "walked") == 1.0
    assert rouge_l_recall("walking", "walked", stemmer=False) == 0.0
    assert rouge_l_f1("walking", "walked", stemmer=False) == 0.0


@pytest.mark.parametrize(
    ("reference", "generated", "recall"),
    [
        ("x", "", 0.0),
        ("x", "東京", 0.0),
        ("東京", "x", 0.0),
        ("東京", "東京です", 1.0),  # a character is a word
        ("กรุงเทพ", "กรุง", 4 / 7),
        ("ភ្នំពេញ", "ភ្នំពេញ", 1.0),
        ("ວຽງຈັນ", "ວຽງ", 3 / 6),
        ("ရန်ကုန်", "ရန်", 3 / 7),
        ("عاصمة فرنسا هي باريس.", "باريس", 1 / 4),  # scripts with spaces: words
        ("서울은 수도이다", "서울은", 1 / 2),
        ("दिल्ली राजधानी है", "दिल्ली", 1 / 3),
        ("The café in 東京 is old", "caf the", 1 / 5),  # Latin: [a-z0-9] as ever
    ],
)
def test_rouge_l_in_every_script(reference: str, generated: str, recall: float) -> None:
    assert rouge_l_recall(reference, generated) == pytest.approx(recall)


@pytest.mark.parametrize("reference", ["", "🥖", "...", "？"])
def test_rouge_l_is_not_defined_without_words(reference: str) -> None:
    for score in (rouge_l_recall, rouge_l_f1):
        assert math.isnan(score(reference, "x"))
    assert math.isnan(distinct_rouge_l_recall("", "x"))


def test_words_of_scripts_without_spaces_in_other_scores() -> None:
    assert distinct_rouge_l_recall("東京は首都", "首都") == pytest.approx(2 / 5)
    assert repetition("東京東京東京東京") == pytest.approx(3 / 5)
    assert is_correct("เมืองหลวงคือกรุงเทพ", ["กรุงเทพ"])
    assert not is_correct("เมืองหลวงคือกรุง", ["กรุงเทพ"])
    assert is_correct("وُلِدَ نَجيب محفوظ سنة ١٩١١.", ["نجيب محفوظ"])  # vowels may be written
    assert is_correct("وُلِدَ نَجيب محفوظ سنة ١٩١١.", ["1911"])


@pytest.mark.parametrize(
    ("log", "published"), [("eval_log_forget.json", 0.9854), ("eval_log.json", 0.9857)]
)
def test_rouge_l_recall_equals_the_published_tofu_log(
    published_logs: Path, log: str, published: float
) -> None:
    """Mean ROUGE-L recall of Llama-2-7B fine-tuned on TOFU, from its 300 logged replies."""
    with gzip.open(
        published_logs / "tofu_llama2_7b_full.json.gz", "rt", encoding="utf-8"
    ) as handle:
        rows = json.load(handle)[log]["generated_text"]
    rows = list(rows.values()) if isinstance(rows, dict) else rows
    scores = [rouge_l_recall(gold, generated) for _, generated, gold in rows]
    assert sum(scores) / len(scores) == pytest.approx(published, abs=5e-5)


# ------------------------------------------------------------------------------------ correct


@pytest.mark.parametrize(
    ("generated", "accepted"),
    [
        ("The capital is PARIS.", ["Paris"]),
        ("It was the “Eiffel Tower”, of course", ["eiffel tower"]),
        ("It has twelve moons", ["12"]),
        ("It has 12 moons", ["Twelve"]),
        ("twenty-one", ["twenty one"]),
        ("In 1,200 cases", ["1200"]),
        ("About 3.14", ["3.14"]),
        ("Juliet\u2019s house", ["Juliet"]),
        ("O'Brien wrote it", ["OBrien"]),
        ("Bogota is the capital", ["Bogotá"]),
        ("ﬁve", ["5"]),
        ("the United States of America", ["USA", "The United States"]),
        ("答案是巴黎。", ["巴黎"]),
        ("Vitamin A", ["A"]),
        ("use the + sign", ["+"]),
    ],
)
def test_correct(generated: str, accepted: list[str]) -> None:
    assert is_correct(generated, accepted)


@pytest.mark.parametrize(
    ("generated", "accepted"),
    [
        ("", ["Paris"]),
        ("Parisian", ["Paris"]),
        ("It has 112 moons", ["12"]),
        ("twenty-one", ["20", "1"]),
        ("twenty-one", ["twenty"]),
        ("one hundred", ["1"]),
        ("About 3.14", ["3"]),
        ("In 1,200 cases", ["1", "200"]),
        ("Vitamin C", ["A"]),
        ("tower Eiffel", ["Eiffel tower"]),
    ],
)
def test_not_correct(generated: str, accepted: list[str]) -> None:
    assert not is_correct(generated, accepted)


def test_negated_answer_is_found_all_the_same() -> None:
    assert is_correct("It is not Paris.", ["Paris"])


def test_correct_needs_an_accepted_answer() -> None:
    with pytest.raises(InputError, match="`accepted` should hold at least one"):
        is_correct("Paris", [])


# ------------------------------------------------------------- ROUGE-L of RWKU


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
        ("King", "", 0),
    ],
)
def test_distinct_recall_of_the_package(reference: str, generated: str, recall: float) -> None:
    assert distinct_rouge_l_recall(reference, generated) == pytest.approx(recall)


def test_distinct_recall_equals_the_usual_recall_for_plain_distinct_words() -> None:
    """Small letters, no punctuation, no repetition: the two definitions meet."""
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    for start in range(6):
        reference, reply = " ".join(words[start:]), " ".join(words[:5])
        expected = rouge_l_recall(reference, reply, stemmer=False)
        assert distinct_rouge_l_recall(reference, reply) == pytest.approx(expected)


# ------------------------------------------------------------- repetition


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        # a b c d e: two 4-grams, both new
        ("a b c d e", 4, 0.0),
        # a a a a a a: three 4-grams, one distinct
        ("a A a a a a", 4, 2 / 3),
        # a b a b a b a: abab, baba, abab, baba: four, two distinct
        ("a b a b a b a", 4, 0.5),
        # pairs: ab, bc, ca, ab: four, three distinct
        ("a b c a b", 2, 0.25),
        # punctuation counts: a and eight commas are six 4-grams, "a,,," and ",,,,"
        ("a,,,,,,,,", 4, 1 - 2 / 6),
        # each Chinese character is a word, also in an English text: eight words, five 4-grams
        ("the cat 好好好好好 sat", 4, 1 - 4 / 5),
        ("", 4, 0.0),
        ("one two three", 4, 0.0),
    ],
)
def test_repetition_worked_values(text: str, size: int, expected: float) -> None:
    assert repetition(text, size) == pytest.approx(expected)


def test_a_longer_loop_is_more_repetitive() -> None:
    """The limit is 1: of n words alike all n-grams but the first are old."""
    shares = [repetition("strugg " * count) for count in (4, 8, 40)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.97
