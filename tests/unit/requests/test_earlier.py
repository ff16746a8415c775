"""Earlier requests: which join a later one, what they keep out of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from lit_unlearn.cli.config import read_configs
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.requests import earlier as tested
from lit_unlearn.requests.battery import qa_lines
from lit_unlearn.requests.dossier import write_dossier
from lit_unlearn.requests.earlier import ancestors
from lit_unlearn.requests.evidence import write_evidence
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.given import read_given
from lit_unlearn.requests.ledger import LedgerEntry
from lit_unlearn.requests.request import Forget, Keep, Request
from lit_unlearn.requests.rows import RequestRows, make_rows, write_rows
from lit_unlearn.requests.run_config import run_config, teacher_path
from lit_unlearn.rewriting.source_texts import QA
from tests.unit.requests.evidence import NEAR, SECOND, SECRET, make_request, record, write_verdict

START = {"model": "old", "fingerprint": "f"}
NEW = QA("Who wrote Emma?", "Jane Austen did.", ("Austen",))


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An earlier request: one question was trained, another one only asked; in a ledger."""
    folder = tmp_path_factory.mktemp("requests")
    place = make_request(folder / "first")
    (place.rows / "forget.jsonl").write_text(qa_lines([SECRET]), "utf-8")
    write_verdict(place, before=record(place.root / "start", 0.8))
    write_evidence(place.root, folder / "ledger")
    return folder


@pytest.fixture
def first(carried_out: Path, tmp_path: Path) -> RequestFolder:
    """A copy of it."""
    copytree(carried_out, tmp_path, dirs_exist_ok=True)
    return RequestFolder(tmp_path / "first")


def made(place: RequestFolder, *forget: QA, **more: Any) -> RequestRows:
    given = {"id": "a", "model": str(place.model), "forget": Forget(questions=list(forget))}
    request = Request(**{"earlier": [str(place.root)], **given, **more})
    folder = place.root.parent / "second/rewriting"
    return make_rows(request, read_given(request, folder), folder)


def source(folder: Path, *rows: QA) -> Source:
    (folder / "keep.jsonl").write_text(qa_lines(rows), "utf-8")
    return Source(str(folder / "keep.jsonl"), domain="question_answer")


def test_trained_rows_join_and_asked_ones_do_not(first: RequestFolder) -> None:
    rows = made(first, NEW)
    assert rows.earlier == [SECRET]
    assert rows.notes[0].startswith("Questions of earlier requests that join the training: 1 (fir")


def test_the_model_from_before_teaches_while_it_is_there(
    first: RequestFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unchanged; the recipe's own path and the request's `teacher` count more."""
    folder = first.root.parent / "second/rewriting"
    monkeypatch.setattr(tested, "manifest_or_problem", lambda *_: {"weights": {"start": START}})
    own = [str(first.root)]
    request = Request(id="a", model="random-tiny", forget=Forget(questions=[NEW]), earlier=own)
    for found, start in (("f", "old"), ("g", "")):
        monkeypatch.setattr(tested, "fingerprint", {"old": found}.__getitem__)
        earlier = read_given(request, folder).earlier
        assert earlier.start == start
        note = earlier.about_teacher
        assert ("(old)" in note, "not there unchanged" in note) == (bool(start), not start)
    recipe = read_configs([Path("erase.yaml")]).values
    model = run_config(recipe, request, first, "old")["model"]
    assert model["teacher"]["init_args"] == {"dtype": "auto", "cache": True, "path": "old"}

    def taught(of: Request, teacher: str = "old") -> str | None:
        return teacher_path(run_config(recipe, of, first, teacher))

    assert (taught(request), taught(request, "")) == ("old", "")
    recipe["model"]["teacher"]["init_args"]["path"] = "mine"
    assert (taught(request), taught(replace(request, teacher="old"))) == ("mine", "old")
    recipe["model"]["teacher"] = None
    assert taught(request) is None
    with pytest.raises(InputError, match="`teacher` should be left out"):
        run_config(recipe, replace(request, teacher="old"), first, "old")


def test_a_start_model_that_is_gone_is_no_teacher(first: RequestFolder) -> None:
    missing = {"weights": {"start": {"model": str(first.root / "gone"), "fingerprint": "f"}}}
    assert tested._start(missing) == ""


def test_a_repeated_request_trains_no_row_twice(first: RequestFolder) -> None:
    rows = made(first, SECRET, NEW)
    assert (len(rows.forget), rows.earlier) == (2, [])
    assert "0 (first), without 1 that this request has itself" in rows.notes[0]


def test_rows_to_keep_do_not_teach_back(first: RequestFolder, tmp_path: Path) -> None:
    """A subject, an accepted answer of a trained row, and one of a row that was only asked."""
    taught = (
        QA("Who is Ada Quist?", "A writer."),
        QA("What is Juniper?", "A shrub."),
        QA("Where is Harlingen?", "In Friesland."),
    )
    rows = made(first, NEW, keep=Keep(neighbors=[source(tmp_path, NEAR, *taught)]))
    assert [row.question for row in rows.neighbor] == [NEAR.question]
    assert any(n.startswith("3 of the rows of `keep.neighbors` were left out") for n in rows.notes)


def test_built_in_rows_do_not_teach_back(first: RequestFolder) -> None:
    play = QA("Who wrote Othello?", "William Shakespeare did.", ("Shakespeare",))
    (first.rows / "forget.jsonl").write_text(qa_lines([play]), "utf-8")
    write_dossier(first.root)
    rows = made(first, NEW)
    kept = [*rows.neighbor, *rows.general, *rows.battery.neighbor, *rows.battery.general]
    assert "Shakespeare" not in " ".join(f"{row.question} {row.answer}" for row in kept)
    without = made(first, NEW, earlier=[])
    assert "Shakespeare" in " ".join(f"{row.question} {row.answer}" for row in without.neighbor)


@pytest.mark.parametrize("question", [SECRET.question.upper(), SECOND.question])
def test_an_earlier_question_is_not_to_keep(
    question: str, first: RequestFolder, tmp_path: Path
) -> None:
    kept = source(tmp_path, NEAR, QA(question, "No idea."))
    with pytest.raises(InputError, match=r"earlier requests \(first\) .* Found 1, such as row"):
        made(first, NEW, keep=Keep(general=[kept]))


def damage(place: RequestFolder, name: str) -> None:
    match name:
        case "no rows":
            (place.rows / "forget.jsonl").unlink()
        case "other rows":
            (place.rows / "forget.jsonl").write_text(qa_lines([SECOND]), "utf-8")
        case "no folder":
            place.root.rename(place.root.with_name("moved"))
        case "manifest":
            write_verdict(place, before=record(place.root / "start", 0.7))
            write_dossier(place.root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no rows", r"rows/forget.jsonl is missing. Restore it from a copy"),
        ("other rows", r"rows/forget.jsonl is changed \(row 1\). Restore it"),
        ("no folder", "Found no readable manifest.json"),
    ],
)
def test_a_damaged_earlier_request_is_named(name: str, message: str, first: RequestFolder) -> None:
    damage(first, name)
    with pytest.raises(InputError, match=rf"first should hold an earlier request.*{message}"):
        made(first, NEW)


def test_the_ledger_says_which_requests_join(first: RequestFolder, tmp_path: Path) -> None:
    """None from the start model; a manifest that was written again is not the ledger's.

    Of another model, such as one that was fine-tuned since, the ledger does not know the line.
    """
    ledger = {"earlier": None, "ledger": str(tmp_path / "ledger")}
    assert made(first, NEW, **ledger).earlier == [SECRET]
    rows = made(first, NEW, **ledger, model=str(first.root / "start"))
    assert not rows.earlier
    assert rows.notes[0].startswith("Requests of the ledger that did not lead to this model: first")
    assert not made(first, NEW, earlier=[], ledger=ledger["ledger"]).earlier
    damage(first, "manifest")
    with pytest.raises(InputError, match=r"manifest[.]json is not the one of the ledger"):
        made(first, NEW, **ledger)


def test_a_request_is_not_earlier_than_itself(first: RequestFolder) -> None:
    with pytest.raises(InputError, match="which is this request's own"):
        made(first, NEW, earlier=[str(first.root.parent / "second")])


def test_ancestors_are_those_in_line() -> None:
    """m0 -a-> m1 -b-> m2 -d-> m3, beside m1 -c-> m4; e found nothing to forget; a was repeated."""
    lines = {"a": "m0 m1", "b": "m1 m2", "c": "m1 m4", "e": "m2 m2", "d": "m2 m3"}
    entries = [
        LedgerEntry(name, name, "digest", *ends.split(), "met", "") for name, ends in lines.items()
    ]
    again = LedgerEntry("a", "a", "later", "m0", "m9", "met", "")
    found = ancestors([*entries, again], "m3")
    assert [(entry.request, entry.manifest) for entry in found] == [
        ("a", "later"),
        ("b", "digest"),
        ("d", "digest"),
    ]
    assert not ancestors(entries, "m0")


def test_earlier_rows_are_a_part_of_the_first_declining_objective(
    first: RequestFolder, tmp_path: Path
) -> None:
    """Half of 4 rows and of weight 2; of NPO's 32 rows 16, and half of the default weight 1."""
    folder = RequestFolder(tmp_path / "second")
    recipe = read_configs([Path("erase.yaml")]).values
    request = Request(
        id="b",
        model="random-tiny",
        forget=Forget(questions=[NEW]),
        earlier=[str(first.root)],
        earlier_share=0.5,
    )
    assert "earlier" not in run_config(recipe, request, folder)["data"]["objectives"]
    write_rows(folder.rows, made(first, NEW))
    config = run_config(recipe, request, folder)
    data, losses = config["data"]["objectives"]["earlier"], config["model"]["objectives"]
    assert losses["earlier"]["init_args"] == {"weight": 1.0}
    assert losses["forget"]["init_args"] == {"weight": 2.0}
    assert (data["rows"], data["answer"], data["expect"]) == (2, "refusal", "decline")
    assert [Path(each["path"]).name for each in data["sources"]] == ["earlier.jsonl"]
    rival = read_configs([Path("tofu/base.yaml"), Path("tofu/npo.yaml")]).values
    config = run_config(rival, request, folder)
    assert config["data"]["objectives"]["earlier"]["rows"] == 16
    assert config["model"]["objectives"]["earlier"]["init_args"] == {"beta": 0.1, "weight": 0.5}
    with pytest.raises(InputError, match="should not have an objective 'earlier'"):
        run_config(config, request, folder)
