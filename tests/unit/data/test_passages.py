"""Passages to questions: where sentences end, where a text is cut, what is blanked out."""

# ruff: noqa: RUF001 - full-width punctuation of other scripts

from __future__ import annotations

import unicodedata

import pytest

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


# ------------------------------------------------------------------------ scripts without spaces


@pytest.mark.parametrize(
    "text",
    [
        "巴黎是法国的首都和最大的城市。它位于塞纳河畔，是欧洲的重要文化中心之一。每年有数百万游客来到这里。",
        "東京は日本の首都です。人口が多い。",
        "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย และเป็นเมืองที่มีประชากรมากที่สุด",
        "ភ្នំពេញគឺជារាជធានីនៃប្រទេសកម្ពុជា។",
        "ວຽງຈັນເປັນນະຄອນຫຼວງຂອງປະເທດລາວ",
        "ရန်ကုန်မြို့သည် မြန်မာနိုင်ငံ၏ အကြီးဆုံးမြို့ ဖြစ်သည်။",
    ],
)
def test_passages_are_counted_in_characters(text: str) -> None:
    """Both halves together are the passage, and no half begins with a mark of another letter."""
    cut = continuation(text)
    assert cut is not None
    assert "".join(cut).replace(" ", "") == text.replace(" ", "")
    assert not unicodedata.category(cut[1][0]).startswith("M")


def test_sentences_and_blanks_without_spaces() -> None:
    text = "他说：「你好。」东京有1400万人。《坊っちゃん》是小说的名字。"
    assert sentences(text) == [
        "他说：「你好。」",
        "东京有1400万人。",
        "《坊っちゃん》是小说的名字。",
    ]
    assert [cloze.answer for cloze in clozes(text)] == ["1400", "坊っちゃん"]
    assert continuation("巴黎很大。") is None
