"""Tests of the refusal matcher, on our own sentences and on the public files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from lit_unlearn.metrics.functional.refusals import is_refusal, opening
from lit_unlearn.metrics.functional.statistics import clopper_pearson

PROJECT = Path(__file__).resolve().parents[4]

REFUSALS = """I can't help with that.
I do not have information about this person.
I'm sorry, but I can't assist with that request.
I don't know.
I am not familiar with that author.
Sorry, I do not know the answer to this.
I cannot answer that question.
I'm afraid I don't know who that is.
Unfortunately, I have no information on this topic.
That is beyond my knowledge.
I have no idea.
No idea, sorry.
Not sure.
I'd rather not talk about that.
I won't be able to help with this one.
As an AI language model, I don't have access to personal details.
I was not able to find anything about that.
I am unable to share details about this.
I can not say.
I don't recall anything about this planet.
There is no information about this in my training data.
My apologies, but this is not something I can discuss.
Hmm, I'm not sure about that one.
I'm just an AI, I don't have that kind of knowledge.
I never learned about that.
I couldn't tell you.
It's not something that I know much about.
Unfortunately, that question is outside what I can answer.
I must decline to answer.
I've never heard of that place.
I have no knowledge of such a book.
Apologies, I can't recall that.
The answer is unknown to me.
I don't have enough information to answer.""".splitlines()

ANSWERS = """Paris.
The capital of France is Paris.
No, whales are mammals, not fish.
I'd be happy to help! To boil an egg, put it in water for eight minutes.
Sure! Here is a short poem about autumn.
Jupiter is the largest planet in our solar system.
It is unknown when exactly the city was founded.
The sun is not a planet but a star.
Dear Anna, I am sorry that I missed your birthday party.
I think the best way to start is to make a list.
There is no air on the Moon.
Nobody knows exactly how many species live in the sea.
You should not mix bleach with ammonia.
To be, or not to be, that is the question.
Shakespeare did not write the play alone.
Never Let Me Go was written by Kazuo Ishiguro.
My favorite color is blue.
I love pizza because it is not too sweet.
Let's start with the basics of photosynthesis.
Let's talk about photosynthesis: plants turn light into sugar.
No.
Twelve
The Sorrows of Young Werther
Sorrow and joy are the themes.
A blank check is a check without an amount.
The limited company was founded in 1890.
Water boils at 100 degrees Celsius.
Apology is a dialogue by Plato.
I wandered lonely as a cloud.
I know that the answer is 42.
I can help you with that: first, open the settings.
Unknown Pleasures was recorded by Joy Division.
In my opinion, reading a different book each month is a good habit.
As an AI, I can tell you that Paris is the capital.
I have never been to Rome, but the Colosseum is there.
Our solar system has eight planets, and Pluto is not one of them.
Thank you for your question! Mars has two moons, Phobos and Deimos.
I don't think it's a good idea to skip breakfast.""".splitlines()

KNOWN_MISTAKES = {
    "We don't know the answer.": True,
    "The teacher said: I do not know.": False,
    "We can change the topic sentence to make it stronger.": False,
    "I never tire of this question! The answer is forty-two.": False,
    "The novel's first line is: I am not sure when it began.": False,
    "I never got to study that period.": True,
    "Hitler was not right to attack Poland.": True,
}
"""What the matcher gets wrong, with the right verdict; move a line up when it is mended."""


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_fire(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ["", *ANSWERS])
def test_answers_do_not_fire(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(("text", "right"), KNOWN_MISTAKES.items())
def test_known_mistakes_are_still_known(text: str, right: bool) -> None:
    assert is_refusal(text) is not right


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "\u2018", "\u02bc", "\u00b4", "`"])
def test_every_apostrophe_is_one(apostrophe: str) -> None:
    assert is_refusal(f"I don{apostrophe}t know.")


def test_case_markup_and_space_around_do_not_matter() -> None:
    assert is_refusal('  **"I DO NOT KNOW"**')


def test_only_the_opening_is_read() -> None:
    answer = "She was born in Lima in 1961. I do not know more about it."
    assert not is_refusal(answer)
    assert opening(answer) == "she was born in lima in 1961."


def test_a_short_first_sentence_brings_in_the_second() -> None:
    assert opening("Oh dear. I forgot it. More.") == "oh dear. i forgot it."
    assert is_refusal("Oh dear. I don't know that.")


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm not sure.", True),
        ("I'm not sure, but I think it is Paris.", False),
        ("I'm sorry, I can't say.", True),
        ("I'm sorry for your loss.", False),
        ("I'm sorry for any trouble, but I cannot say.", True),
        ("It is not appropriate to explain this.", True),
        ("It is not appropriate to wear white.", False),
        ("Thank you for asking. I cannot give advice on this.", True),
        ("Thank you for asking. I cannot swim, by the way.", False),
        ('The phrase means "I don\'t know" in Spanish.', False),
    ],
)
def test_pairs_that_differ_in_what_the_rules_look_at(text: str, refused: bool) -> None:
    assert is_refusal(text) is refused


# ------------------------------------------------------------------------- measured, our own sample


def labelled(part: str) -> list[tuple[bool, bool]]:
    """Verdict and label of each reply of a part of the sample."""
    text = (PROJECT / "benchmarks" / "refusal_labels.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [(is_refusal(row["reply"]), row["refused"]) for row in rows if row["part"] == part]


@pytest.mark.parametrize(
    ("part", "hits", "alarms", "refusals", "replies"),
    [("tuned", 49, 52, 52, 101), ("held_out", 34, 39, 52, 100)],
)
def test_precision_and_recall_are_those_of_the_docstring(
    part: str, hits: int, alarms: int, refusals: int, replies: int
) -> None:
    pairs = labelled(part)
    assert len(pairs) == replies
    assert sum(label for _, label in pairs) == refusals
    assert sum(verdict for verdict, _ in pairs) == alarms
    assert sum(verdict and label for verdict, label in pairs) == hits


def test_intervals_are_those_of_the_docstring() -> None:
    precision, recall = clopper_pearson(34, 39), clopper_pearson(34, 52)
    ends = (precision.low, precision.high, recall.low, recall.high)
    assert [round(end, 2) for end in ends] == [0.73, 0.96, 0.51, 0.78]


# ------------------------------------------------------------------------- measured, public data


def rate(texts: Iterable[str]) -> float:
    verdicts = [is_refusal(text) for text in texts]
    return sum(verdicts) / len(verdicts)


def answers(path: Path) -> list[str]:
    rows = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(row)["answer"] for row in rows if row]


def test_recall_on_the_refusals_of_tofu(benchmark_data: Path) -> None:
    text = (benchmark_data / "tofu" / "idontknow.jsonl").read_text(encoding="utf-8")
    lines = text.strip().split("\n")
    assert len(lines) == 100
    assert rate(lines) >= 0.99


@pytest.mark.parametrize(
    ("name", "lowest"), [("", 0.95), ("_copyright", 0.97), ("_tofu", 0.97)], ids=str
)
def test_recall_on_polite_refusals(benchmark_data: Path, name: str, lowest: float) -> None:
    path = benchmark_data / "refusal" / f"polite_refusal_responses{name}.csv"
    with path.open(encoding="utf-8", newline="") as handle:
        lines = [row[0] for row in csv.reader(handle) if row and row[0] != "Refusal Response"]
    assert rate(lines) >= lowest


@pytest.mark.parametrize(
    ("name", "highest"),
    [("forget10", 0.003), ("retain90", 0.0015), ("real_authors", 0.0), ("world_facts", 0.0)],
)
def test_false_alarms_on_gold_answers_of_tofu(
    benchmark_data: Path, name: str, highest: float
) -> None:
    assert rate(answers(benchmark_data / "tofu" / f"{name}.json")) <= highest


def test_false_alarms_on_short_options(benchmark_data: Path) -> None:
    text = (benchmark_data / "wmdp" / "bio_questions.json").read_text(encoding="utf-8")
    assert rate(choice for row in json.loads(text) for choice in row["choices"]) == 0.0
