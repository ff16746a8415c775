"""benchmarks/question_forms.py: figures by the form of a question."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.record_files import write_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.evaluation.suites.answers import PREFILLED, SCORES
from tests.benchmark_scripts import benchmark

ASKED = {"question": "Why?", "choices": ["sun", "rain"], "answer": 1}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("question_forms")


def questions() -> dict[str, str]:
    known = benchmark("known_questions")
    forms = {"text": known.with_options(ASKED, accepted=False), "letter": known.with_letters(ASKED)}
    return {"open": "Why?", **{name: str(row["question"]) for name, row in forms.items()}}


def answer(group: str, question: str, **scores: float) -> Row:
    unknown = dict.fromkeys(SCORES, math.nan) | {"refused": 0.0, "answer_nll": 1.0}
    return Row("1", group, unknown | scores, question)


def run(begun: float = 1.0, correct: float = 1.0, **rouge_l: float) -> list[Row]:
    """Rows of each form to forget, one of them behind an opener as well, and one to keep."""
    asked = questions()
    rows = [answer("forget", asked[name], rouge_l_recall=value) for name, value in rouge_l.items()]
    rows.append(answer(f"forget{PREFILLED}", asked["open"], rouge_l_recall=begun))
    return [*rows, answer("retain", "?", correct=correct)]


def test_a_form_is_told_by_the_last_line(script: ModuleType) -> None:
    assert {name: script.form(text) for name, text in questions().items()} == {
        name: name for name in script.FORMS
    }


def test_figures_of_a_run(script: ModuleType) -> None:
    """Plain, the sum falls from 2 to 1; behind an opener .4 to .1; 1 and 3 of 4 are kept."""
    before = run(open=1.0, text=0.5, letter=0.5, begun=0.4)
    after = run(open=0.25, text=0.5, letter=0.25, begun=0.1)
    after[0].scores["refused"] = after[4].scores["refused"] = 1.0
    for rows, wrong in ((before, 0), (after, 1)):
        rows += [answer("retain", "?", correct=float(i >= wrong)) for i in range(3)]
        letter = questions()["letter"]  # not judged by a text
        rows.append(answer("retain", letter, rouge_l_recall=0.0))
    found = script.run_figures(before, after)
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


def test_a_start_that_knows_nothing_has_no_ratio(script: ModuleType) -> None:
    rows = run(open=0.0, text=0.0, letter=0.0, begun=0.0, correct=0.0)
    found = script.run_figures(rows, rows)
    assert all(math.isnan(found[name]) for name in ("forgotten", "kept", "mean"))


def test_figures_of_an_evaluation(script: ModuleType) -> None:
    asked = questions()
    suites = {
        "prefill": [("open", 0.0), ("open", 0.5), ("text", 1.0), ("text", math.nan)],
        "choices": [("open", 0.3)],
    }
    rows = {
        suite: [Row("1", "g", {"recall": score}, asked[name]) for name, score in own]
        for suite, own in suites.items()
    }
    assert script.evaluation_figures(rows) == {
        "choices, g, letter, recall": 0.3,
        "prefill, g, open, recall": 0.25,
        "prefill, g, text, recall": 1.0,
    }


def test_both_kinds_of_folders(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two folders with one name are two columns."""
    folders = [tmp_path / name for name in ("run", "a/evaluation", "b/evaluation")]
    line = {"objective": "forget", "example_id": "1", "prefill": "", "gold": "So.", "generated": ""}
    line |= {"rouge_l": 0.5, "correct": 1, "refused": False, "answer_nll": 1.0}
    lines = [json.dumps({**line, "question": text}) for text in questions().values()]
    lines.append(json.dumps({**line, "question": "?", "objective": "neighbor"}))
    folders[0].mkdir()
    for when in ("before", "after"):
        (folders[0] / f"answers_{when}.jsonl").write_text("\n".join(lines), "utf-8")
    for folder, score in zip(folders[1:], (0.25, 0.75), strict=True):
        rows = [Row("1", "g", {"recall": score}, "Why?")]
        suites = {"s": SuiteRecord("s", {}, 0, 0, rows, [])}
        write_evaluation(folder, EvaluationRecord("m", "", suites, {}, {}))
    script.main(list(map(str, folders)))
    printed = capsys.readouterr().out.splitlines()
    assert "| forgotten | 0.00 |" in printed
    assert "| s, g, open, recall | 0.25 | 0.75 |" in printed


def test_bad_folders(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has neither answers_after\.jsonl nor the files"):
        script.main([str(tmp_path)])
    with pytest.raises(InputError, match="Found none of the form text; run configs/cyber"):
        script.run_figures([], run(open=1.0))
    for when in ("before", "after"):
        (tmp_path / f"answers_{when}.jsonl").write_text('{"objective": "forget"}\n', "utf-8")
    with pytest.raises(InputError, match="line 1: expected an answer that a run wrote"):
        script.main([str(tmp_path)])
