"""A request's file: what is read, and one line with the repair for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.cli.erase import read_request
from lit_unlearn.errors import InputError
from lit_unlearn.requests.thresholds import Threshold

WHOLE = """
id: hugo
model: random-tiny
forget:
  subject: Victor Hugo
  texts: [Victor Hugo was born in Besancon in 1802.]
  questions: [{question: "Who wrote Nana?", answer: Hugo did., accepted: [Hugo]}]
  rows: [{path: "builtin:forget"}]
keep: {neighbors: [{path: "builtin:neighbor", limit: 4}]}
recipe: [erase.yaml, mine.yaml]
thresholds: [{figure: prefill/unattacked/recall, at_most: 0.1}]
seed: 3
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "request.yaml"
    file.write_text(text, "utf-8")
    return file


def test_every_form_is_read(tmp_path: Path) -> None:
    found = read_request(written(tmp_path, WHOLE))
    assert (found.id, found.seed, found.recipes) == ("hugo", 3, ["erase.yaml", "mine.yaml"])
    assert found.forget.questions[0].accepted == ("Hugo",)
    assert found.forget.rows[0].path == "builtin:forget"
    assert found.keep.neighbors[0].limit == 4
    assert found.thresholds == [Threshold("prefill/unattacked/recall", at_most=0.1)]


@pytest.mark.parametrize("empty", ["", "\nrecipe:\nkeep:\nthresholds:\nseed:\nledger:"])
def test_most_keys_can_be_left_out(empty: str, tmp_path: Path) -> None:
    text = "id: a\nmodel: m/m\nforget: {texts: [Something.], subject: }" + empty
    found = read_request(written(tmp_path, text))
    assert (found.recipes, found.thresholds, found.writer) == (["erase.yaml"], [], None)
    assert found.keep.neighbors == []


START = "id: a\nmodel: random-tiny\n"
BOUNDS = f"{START}forget: {{texts: [a]}}\nthresholds: "


def test_bounds_that_can_be_met_together_are_read(tmp_path: Path) -> None:
    bounds = "{figure: a/b, at_most: .9}, {figure: a/b, at_least: .9}, {figure: c/d, at_most: .1}"
    bounds += ", {figure: a/b, at_most: 1.5, of_start: true}, {figure: a/answer_nll, at_least: 3}"
    assert len(read_request(written(tmp_path, f"{BOUNDS}[{bounds}]")).thresholds) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys such as id, model and forget, found an empty file"),
        (START, "forget"),
        (f"{START}forget: {{}}", r"texts, questions or rows. Found none; add some"),
        (f"{START}forget: {{subject: Hugo}}", "only a subject;"),
        (f"{START}forget: {{texts: ['  ']}}", "an empty one, number 1; remove it"),
        (f"{START}forget: {{questions: [{{question: A, answer: ''}}]}}", "an empty answer"),
        (f"{START}forget: {{questions: [{{question: A}}]}}", "answer"),
        (
            f"{START}forget: {{questions: [{{question: A, answer: B, accepted: [B, ' ']}}]}}",
            "`accepted` spellings that are not empty. Found an empty one, number 1",
        ),
        (f"{START}forget: {{texts: [a], subject: ' '}}", "`forget.subject` should be a name"),
        (f"{START}forget:", "forget"),
        (
            f"{START}forget: {{texts:}}",
            r"request.yaml:3: `forget.texts` should be a list. Found no",
        ),
        (f"{START}forget: Secret", "`forget` should be keys with values. Found a text; indent"),
        (f"{START}forget: [a]", "`forget` should be keys with values. Found a list"),
        (f"{START}forget: {{texts: [a]}}\nkeep: a", "`keep` should be keys with values"),
        (
            f"{START}forget: {{questions: [Who]}}",
            "`forget.questions.0` should be keys with values. Found a text",
        ),
        (
            f"{START}forget: {{questions: {{question: A, answer: B}}}}",
            "`forget.questions` should be a list. Found keys; begin each entry with '- '",
        ),
        (f"{START}forget: {{texts: Secret}}", "`forget.texts` should be a list. Found a text"),
        (
            f"{START}forget: {{questions: [{{question: A, answer: B, accepted: B}}]}}",
            "`forget.questions.0.accepted` should be a list. Found a text",
        ),
        (f"{START}forget: {{question: []}}", "questions"),
        (f"{START}forgot: {{texts: [a]}}", "did you mean forget"),
        (f"{START}forget: {{texts: [a]}}\nkeep: {{neighbours: []}}", "neighbors"),
        (f"{START}forget: {{texts: [a]}}\nseed: x", "expected"),
        (f"{START}forget: {{texts: [a]}}\nseed: -1", "at least 0"),
        (f"{START}forget: {{texts: [a]}}\nthresholds: [{{figure: a/b}}]", "one number"),
        ("id: a/b\nmodel: m\nforget: {texts: [a]}", "found 'a/b'; change it"),
        ("id: a\nmodel: ''\nforget: {texts: [a]}", "`model` should be a name. Found an empty one"),
        ("id: a\nmodel: 5\nforget: {texts: [a]}", "`model` should be a text. Found a number"),
        (f"{START}forget: {{texts: [a]}}\nledger: ''", "`ledger` should be a name"),
        (f"{START}forget: {{texts: [a]}}\nrecipe: []", "`recipe` should be a name"),
        (
            f"{START}forget: {{questions: [{{question: A, answer: {{Secret: b}}}}]}}",
            "request.yaml:3: `forget.questions.0.answer` should be a text. Found keys",
        ),
        (
            f"{START}forget: {{questions: [{{question: A, answer: 1802}}]}}",
            "`forget.questions.0.answer` should be a text. Found a number; write one text, in q",
        ),
        (f"{START}forget: {{subject: [Secret], texts: [a]}}", "should be a text. Found a list"),
        (f"{START}forget: {{subject: Secret}}", "Found only a subject"),
        (
            f"{START}forget: {{texts: [a]}}\nthresholds: [{{figure: a/b, at_most: little}}]",
            "request.yaml:4: `thresholds.0.at_most` should be a number. Found a text",
        ),
        (
            f"{BOUNDS}[{{figure: prefill/unattacked/recall, at_most: -5}}]",
            "`thresholds.0.at_most` should be at least 0 and at most 1. Found -5.0; write a share",
        ),
        (f"{BOUNDS}[{{figure: a/b, at_least: 20}}]", "`thresholds.0.at_least` .* Found 20"),
        (f"{BOUNDS}[{{figure: a/b, at_most: -1, of_start: true}}]", "at least 0. Found -1.0;"),
        (f"{BOUNDS}[{{figure: a/answer_nll, at_least: -1}}]", "at least 0. Found -1.0; change it"),
        (
            f"{BOUNDS}[{{figure: a/b, at_most: .1}}, {{figure: a/b, at_most: .9}}]",
            "Found at most 0.9 and at most 0.1 for a/b; remove one",
        ),
        (
            f"{BOUNDS}[{{figure: a/b, at_most: .1}}, {{figure: a/b, at_least: .9}}]",
            "Found at least 0.9 and at most 0.1 for a/b; remove one",
        ),
        (f"{START}forget: {{texts: [a]}}\nearlier_share: 7", "above 0 and at most 1. Found 7"),
        ("id: a\nid: b", "already set in line 1"),
    ],
)
def test_a_mistake_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"(?i){message}") as error:
        read_request(written(tmp_path, text))
    assert "\n" not in str(error.value)
    assert "Secret" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"requests/frence\.yaml: no such file|there is no folder"):
        read_request(Path("requests/frence.yaml"))
