"""The data set that ships with the package: every file valid, every promise of its README kept.

The checks read the files themselves, so that a row edited by hand is checked like any other.
Worked value of the comparison they use: ``normalise("Champs-Élysées!")`` is ``"champs elysees"``:
lower case, accents off, every run of other characters one space.
"""

from __future__ import annotations

import json
import re
import unicodedata
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

import lit_unlearn

BUILTIN = Path(lit_unlearn.__file__).parent / "data" / "builtin"
NAMES = ("forget", "neighbor", "general", "instructions")
SMALLEST = {
    "forget": (80, 40),
    "neighbor": (80, 40),
    "general": (80, 40),
    "instructions": (40, 20),
}
KEYS = {"id", "split", "question", "answer", "accepted", "topic"}
TOPIC_WORDS = re.compile(r"\b(france|french|paris|parisian|napoleon)\b")
TEXTS = ("beginning", "text")
Row = dict[str, Any]


def normalise(text: str) -> str:
    """Lower case, without accents, every run of other characters one space."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def occurs(needle: str, text: str) -> bool:
    """Whether the needle occurs in the text as whole words."""
    return f" {normalise(needle)} " in f" {normalise(text)} "


def load(name: str) -> list[Row]:
    """The rows of one file."""
    lines = (BUILTIN / f"{name}.jsonl").read_bytes().decode("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def load_list(name: str) -> Any:
    """The content of one JSON file."""
    return json.loads((BUILTIN / f"{name}.json").read_text("utf-8"))


def every_row() -> list[Row]:
    """The rows of all files."""
    return [row for name in NAMES for row in load(name)]


def test_normalise_worked_value() -> None:
    """Hyphen and accents vanish, words stay apart."""
    assert normalise("Champs-Élysées!") == "champs elysees"
    assert occurs("Seine", "It is the Seine.")
    assert not occurs("Seine", "The seiners left.")


@pytest.mark.parametrize("name", NAMES)
def test_counts(name: str) -> None:
    """Each part is at least as large as promised."""
    rows = load(name)
    counts = tuple(sum(r["split"] == split for r in rows) for split in ("train", "eval"))
    assert sum(counts) == len(rows)
    assert counts[0] >= SMALLEST[name][0]
    assert counts[1] >= SMALLEST[name][1]


def test_the_readme_counts_right() -> None:
    """Its table says how many rows, openers and refusals each file has."""
    readme = (BUILTIN / "README.md").read_text("utf-8")
    stated = {
        file: (int(train), int(evaluation or 0))
        for file, train, evaluation in re.findall(r"\| `(\S+)` \| (\d+) \| (\d*) ?\|", readme)
    }
    counts = {
        f"{name}.jsonl": tuple(
            sum(row["split"] == split for row in load(name)) for split in ("train", "eval")
        )
        for name in NAMES
    }
    families = load_list("prefills")
    counts["prefills.json"] = (len(families["train"]), len(families["eval"]))
    counts["passages.jsonl"] = (len(load("passages")), 0)
    counts["refusals.json"] = (len(load_list("refusals")), 0)
    assert stated == counts
    countries = {row["topic"] for row in load("neighbor")}
    assert f"; {len(countries) - 4} other countries |" in readme


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_valid(name: str) -> None:
    """Keys, types, no empty or untrimmed text, and an id that says file and split."""
    for row in load(name):
        marked = name == "forget" and row["split"] == "eval"
        assert set(row) == (KEYS | {"seen_fact"} if marked else KEYS), row
        for key in KEYS - {"accepted"}:
            assert isinstance(row[key], str), row
            assert row[key], row
            assert row[key] == row[key].strip(), row
        assert re.fullmatch(rf"{name}-{row['split']}-\d{{3}}", row["id"]), row
        assert isinstance(row["accepted"], list), row
        assert all(isinstance(a, str) and normalise(a) for a in row["accepted"]), row
        assert bool(row["accepted"]) == (name != "instructions"), row
        assert not marked or isinstance(row["seen_fact"], bool), row


def test_ids_and_questions_are_unique() -> None:
    """No id and no question (normalised) occurs twice, across files and splits."""
    rows = every_row()
    assert len({r["id"] for r in rows}) == len(rows)
    questions = [normalise(r["question"]) for r in rows]
    assert sorted(questions) == sorted(set(questions))


def test_accepted_is_in_the_answer_and_not_in_the_question() -> None:
    """The gold answer scores as correct; repeating the question does not."""
    for row in every_row():
        if row["accepted"]:
            assert any(occurs(a, row["answer"]) for a in row["accepted"]), row
        assert not any(occurs(a, row["question"]) for a in row["accepted"]), row


def test_no_question_can_be_answered_by_yes_or_no() -> None:
    """Knowledge questions do not begin with an auxiliary verb."""
    auxiliary = re.compile(r"(is|are|was|were|do|does|did|can|could|has|have|had|will)\b")
    rows = [r for r in every_row() if r["accepted"]]
    assert [r["question"] for r in rows if auxiliary.match(normalise(r["question"]))] == []


@pytest.mark.parametrize("name", NAMES[1:])
def test_only_the_forget_file_is_about_the_topic(name: str) -> None:
    """Forgetting the topic is no reason to fail on any other file."""
    texts = [" ".join([r["question"], r["answer"], *r["accepted"]]) for r in load(name)]
    assert [t for t in texts if TOPIC_WORDS.search(normalise(t))] == []


def test_seen_facts_are_in_the_training_part() -> None:
    """A seen fact shares an accepted string with a training row; about half of them are seen."""
    rows = load("forget")
    taught = {normalise(a) for r in rows if r["split"] == "train" for a in r["accepted"]}
    marked = [r for r in rows if r["split"] == "eval"]
    seen = [r for r in marked if r["seen_fact"]]
    assert all(taught & {normalise(a) for a in r["accepted"]} for r in seen)
    assert 0.4 <= len(seen) / len(marked) <= 0.6


def test_no_answer_dominates_the_forget_evaluation() -> None:
    """A model that always says the same word is right on at most one question in eight."""
    marked = [r for r in load("forget") if r["split"] == "eval"]
    for answer in ("France", "French", "Paris"):
        assert sum(any(occurs(answer, a) for a in r["accepted"]) for r in marked) <= len(marked) / 8


def test_prefill_families_are_disjoint() -> None:
    """No opener equals or begins one of another family, whatever case and punctuation."""
    families = {name: [*map(normalise, own)] for name, own in load_list("prefills").items()}
    assert set(families) == {"train", "eval", "validation"}
    assert all(len(set(own)) == len(own) >= 6 for own in families.values())
    for one, other in permutations(families.values(), 2):
        for first, second in product(one, other):
            assert not f"{first} ".startswith(f"{second} ")


def test_refusals_are_distinct_and_name_no_topic() -> None:
    """Six to ten sentences that fit any question."""
    refusals = load_list("refusals")
    assert len({normalise(r) for r in refusals}) == len(refusals)
    assert 6 <= len(refusals) <= 10
    assert all(r.endswith(".") and not TOPIC_WORDS.search(normalise(r)) for r in refusals)


def test_passages_are_two_different_sentences_on_the_topic() -> None:
    rows = load("passages")
    assert len({r["beginning"] for r in rows} | {r["text"] for r in rows}) == 2 * len(rows)
    for number, row in enumerate(rows, start=1):
        assert (row["id"], row["split"]) == (f"passages-train-{number:03d}", "train")
        assert all(row[key].endswith(".") and row[key] == row[key].strip() for key in TEXTS), row
    on_topic = [TOPIC_WORDS.search(normalise(f"{r['beginning']} {r['text']}")) for r in rows]
    assert sum(map(bool, on_topic)) >= len(rows) - 2, "Normandy and Avignon speak for themselves"
