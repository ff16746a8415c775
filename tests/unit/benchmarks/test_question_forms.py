"""benchmarks/question_forms.py: figures by the form of a question."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lit_unlearn.errors import InputError
from tests.benchmark_scripts import benchmark

ASKED = {"question": "Why?", "choices": ["sun", "rain"], "answer": 1}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("question_forms")


def questions() -> dict[str, str]:
    known = benchmark("known_questions")
    forms = {"text": known.with_options(ASKED, accepted=False), "letter": known.with_letters(ASKED)}
    return {"open": "Why?", **{name: str(row["question"]) for name, row in forms.items()}}


def answer(objective: str, question: str, prefill: str = "", **values: Any) -> dict[str, Any]:
    empty = {"rouge_l": None, "correct": None, "refused": False, "answer_nll": 1.0}
    place = {"objective": objective, "question": question, "prefill": prefill}
    return {**place, **empty, **values}


def test_a_form_is_told_by_the_last_line(script: ModuleType) -> None:
    assert {name: script.form(text) for name, text in questions().items()} == {
        name: name for name in script.FORMS
    }


def test_figures_of_a_run(script: ModuleType) -> None:
    """Plain 1 -> .25 and .5 -> .5 in sum 2 -> 1; behind an opener .4 -> .1; kept 4 -> 3 of 4."""
    asked = questions()
    scores = {"open": (1.0, 0.25), "text": (0.5, 0.5), "letter": (0.5, 0.25)}
    runs = []
    for when in (0, 1):
        rows = [answer("forget", asked[n], rouge_l=s[when]) for n, s in scores.items()]
        rows.append(answer("forget", asked["open"], "Sure:", rouge_l=(0.4, 0.1)[when]))
        rows += [answer("retain", "?", correct=float(i < 4 - when)) for i in range(4)]
        rows.append(answer("retain", asked["letter"], rouge_l=0.0))  # not judged by a text
        runs.append(rows)
    runs[1][0]["refused"] = runs[1][4]["refused"] = True
    found = script.run_figures(*runs)
    assert found["forgotten"] == pytest.approx((0.5 + 0.75) / 2)
    assert found["kept"] == pytest.approx(0.75)
    assert found["mean"] == pytest.approx(2 / (1 / 0.625 + 1 / 0.75))
    declined = {name: value for name, value in found.items() if "declined" in name}
    assert declined == {
        "declined open": 1.0,
        "declined text": 0.0,
        "declined letter": 0.0,
        "kept, declined": 0.25,
    }


def test_figures_of_an_evaluation(script: ModuleType) -> None:
    asked = questions()
    rows = [
        {"suite": suite, "group": "g", "question": asked[name], "scores": {"recall": score}}
        for suite, name, score in [
            ("prefill", "open", 0.0),
            ("prefill", "open", 0.5),
            ("prefill", "text", 1.0),
            ("prefill", "text", None),
            ("choices", "open", 0.3),
        ]
    ]
    assert script.evaluation_figures(rows) == {
        "choices, g, letter, recall": 0.3,
        "prefill, g, open, recall": 0.25,
        "prefill, g, text, recall": 1.0,
    }


def test_both_kinds_of_folders(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, evaluation = tmp_path / "run", tmp_path / "evaluation"
    rows = [answer("forget", text, rouge_l=1.0) for text in questions().values()]
    rows.append(answer("neighbor", "?", correct=1.0))
    scored = {"suite": "s", "group": "g", "question": "Why?", "scores": {"recall": 0.5}}
    for folder, files in ((run, ["answers_before", "answers_after"]), (evaluation, ["rows"])):
        folder.mkdir()
        for name in files:
            lines = rows if folder == run else [scored]
            text = "\n".join(map(json.dumps, lines))
            (folder / f"{name}.jsonl").write_text(text, "utf-8")
    script.main([str(run), str(evaluation)])
    printed = capsys.readouterr().out.splitlines()
    assert "| forgotten | 0.00 |" in printed
    assert "| mean | 0.00 |" in printed
    assert "| s, g, open, recall | 0.50 |" in printed


def test_bad_folders(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["question_forms.py", str(tmp_path)])
    with pytest.raises(InputError, match=r"has neither answers_after\.jsonl nor rows\.jsonl"):
        script.main()
    open_only = [answer("forget", "Why?", rouge_l=1.0)]
    with pytest.raises(InputError, match="Found open; run configs/cyber"):
        script.run_figures(open_only, open_only)
