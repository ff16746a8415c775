"""Rows of a request: what is trained, what is asked, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.requests.given import read_given
from lit_unlearn.requests.languages import language_notes
from lit_unlearn.requests.request import Forget, Keep, Request
from lit_unlearn.requests.rows import ASKED, FEW, RequestRows, make_rows
from lit_unlearn.rewriting.source_texts import QA

TEXT = "Victor Hugo was born in Besancon in 1802. He wrote Les Miserables in Guernsey in 1862."


def builtin(name: str, limit: int | None = None, split: str = "train") -> list[Source]:
    return [Source(f"builtin:{name}", split=split, limit=limit)]


def made(folder: Path, forget: Forget, **more: Any) -> RequestRows:
    request = Request(id="a", model="random-tiny", forget=forget, **more)
    return make_rows(request, read_given(request, folder), folder)


def questions(rows: Any) -> set[str]:
    return {normalise(row.question) for row in rows}


def test_held_out_questions_are_not_trained(tmp_path: Path) -> None:
    """110 questions: a quarter, 28, is held out; 40 of the 82 others are asked in other words."""
    forget = Forget(rows=builtin("forget"), subject="France")
    rows = made(tmp_path, forget, keep=Keep(neighbors=builtin("neighbor", 200)))
    battery = rows.battery
    assert (len(rows.forget), len(battery.forget), len(battery.trained)) == (82, 28, ASKED)
    assert not questions(rows.forget) & questions(battery.forget)
    assert questions(battery.trained) <= questions(rows.forget)
    assert not questions(battery.reworded) & questions(battery.trained)
    assert [r.answer for r in battery.reworded] == [r.answer for r in battery.trained]
    assert (len(rows.neighbor), len(battery.neighbor)) == (160, ASKED)
    assert not questions(rows.neighbor) & questions(battery.neighbor)
    assert rows.notes == []


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    forget = Forget(rows=builtin("forget", 12))
    first, again, other = (made(tmp_path, forget, seed=seed) for seed in (1, 1, 2))
    assert first.battery.forget == again.battery.forget != other.battery.forget


def test_of_few_questions_none_is_held_out(tmp_path: Path) -> None:
    rows = made(tmp_path, Forget(rows=builtin("forget", FEW)))
    assert questions(rows.battery.forget) == questions(rows.forget)
    assert any("No question is held out" in note for note in rows.notes)
    assert len(rows.neighbor) >= 100  # enough of them for few questions too


def test_the_package_has_rows_to_keep_without_what_is_forgotten(tmp_path: Path) -> None:
    question = QA("Who wrote the opera Aida?", "Verdi did.", ("Verdi", "Italy", "hertz"))
    rows = made(tmp_path, Forget(questions=[question], subject="Germany"))
    kept = [*rows.neighbor, *rows.general, *rows.battery.neighbor, *rows.battery.general]
    texts = " ".join(f"{row.question} {row.answer}" for row in kept)
    assert not {"Italy", "Germany", "Verdi"} & set(
        texts.replace("?", " ").replace(".", " ").split()
    )
    assert any("No neighbours were given" in note for note in rows.notes)


def test_questions_are_made_of_texts(tmp_path: Path) -> None:
    rows = made(tmp_path, Forget(texts=[TEXT]))
    assert rows.forget
    assert all(row.answer in TEXT and row.answer not in row.question for row in rows.forget)
    assert all("____" in r.question or "blank" in r.question for r in rows.forget)
    with pytest.raises(InputError, match="of which questions can be made"):
        made(tmp_path / "other", Forget(texts=["hm, hm."]))


def test_a_repeated_question_counts_once(tmp_path: Path) -> None:
    question = QA("Which river flows through Paris?", "The Seine.", ("Seine",))
    forget = Forget(questions=[question, question, QA("Who is he?", "Hugo.")])
    rows = made(tmp_path, forget)
    assert len(rows.forget) == 2  # the second one counts although a rule finds it unclear
    assert any(note.startswith("1 repeated") for note in rows.notes)


def test_what_is_to_forget_and_to_keep_is_refused(tmp_path: Path) -> None:
    keep = Keep(general=builtin("general", 3), neighbors=builtin("forget", 9))
    with pytest.raises(InputError, match=r"Found 4 in both, such as .*remove them from one"):
        made(tmp_path, Forget(rows=builtin("forget", 4)), keep=keep)


@pytest.mark.parametrize("place", ["forget.rows", "keep.neighbors", "keep.general"])
def test_a_missing_file_is_named_with_its_place(place: str, tmp_path: Path) -> None:
    """Nothing is written, not even the question of the request itself."""
    part, _, name = place.partition(".")
    missing = {name: [Source("missing.jsonl", domain="question_answer")]}
    forget = {"questions": [QA("Who is he?", "Hugo.")], **(missing if part == "forget" else {})}
    keep = Keep(**missing) if part == "keep" else Keep()
    request = Request(id="a", model="random-tiny", forget=Forget(**forget), keep=keep)
    with pytest.raises(InputError, match=rf"^`{place}` of the request: .*'missing\.jsonl'"):
        read_given(request, tmp_path / "rewriting")
    assert not list(tmp_path.iterdir())


def test_kept_rows_with_the_subject_are_left_out(tmp_path: Path) -> None:
    keep = Keep(neighbors=builtin("neighbor", 60))
    forget = Forget(rows=builtin("forget", 9), subject="Portugal")
    rows = made(tmp_path, forget, keep=keep)
    assert "Portugal" not in " ".join(f"{r.question} {r.answer}" for r in rows.neighbor)
    assert any(note.endswith("contain the subject.") for note in rows.notes)
    assert "Portugal" not in " ".join(rows.notes)  # they become a part of the dossier


def test_something_must_be_left_to_keep(tmp_path: Path) -> None:
    row = Source("builtin:neighbor", where={"topic": ["Portugal"]}, limit=1)
    forget = Forget(rows=builtin("forget", 9), subject="Portugal")
    with pytest.raises(InputError, match="Found none of 2; add others"):
        made(tmp_path, forget, keep=Keep(neighbors=[row], general=[row]))


@pytest.mark.parametrize(
    ("question", "noted"),
    [
        ("Who wrote Nana?", False),
        ("Name the capital of Peru.", False),
        ("\u00bfEn qu\u00e9 a\u00f1o naci\u00f3 Ana Quist?", True),
        ("Was hat Ada Quist in Bonn gemacht?", True),
        ("\u8c01\u5199\u4e86\u5a1c\u5a1c\uff1f", True),
    ],
)
def test_questions_in_another_language_are_noted(question: str, noted: bool) -> None:
    english = QA("Where does she live?", "In Bonn.")
    asked = [QA(question, "A."), QA(question, "B."), english]
    assert len([*language_notes(asked)]) == noted
    assert not [*language_notes([QA(question, "A."), english])]
