"""benchmarks/known_questions.py: which questions are asked, and which count as answered."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError
from tests.benchmark_scripts import benchmark

RIGHT = {
    "question": "What does chmod change?",
    "choices": ["Modes", "Owners", "Sizes"],
    "answer": 0,
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("known_questions")


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"question": "Which of the following does it change?"}, False),
        ({"question": "What does\nit change?"}, False),
        ({"question": "why " * 41}, False),
        ({"choices": ["Modes", "Owners", "All of the above"]}, False),
        ({"choices": ["Modes", "Owners", "Options A and B"]}, False),
        ({"choices": ["Modes", "Owners", "long " * 13]}, False),
    ],
)
def test_questions_that_can_be_asked_with_and_without_options(
    script: ModuleType, change: dict[str, Any], fits: bool
) -> None:
    assert script.suitable(RawRow("one", {**RIGHT, **change}, "here")) is fits


def test_answered_is_what_is_right_in_both_orders(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A model that says A, one that knows, and one that knows only this question."""
    other = {**RIGHT, "question": "What does chown change?", "answer": 1}
    monkeypatch.setattr(script, "chosen", lambda root, limit: {"forget": [RIGHT, other]})

    def answers(knows: str) -> None:
        def evaluate(model: str, suite: Any, **_: Any) -> Any:
            rows = []
            for group, source in suite.sources.items():
                for row in read_rows(source):
                    given = row.values
                    right = given["answer"] == 0 or given["question"] == knows
                    rows.append(
                        SimpleNamespace(
                            group=group,
                            question=given["question"],
                            scores={"accuracy": float(right)},
                        )
                    )
            found = SimpleNamespace(suites={"multiple_choice": SimpleNamespace(rows=rows)})
            return SimpleNamespace(records={"model": found})

        monkeypatch.setattr(script, "evaluate", evaluate)

    monkeypatch.setattr(sys, "argv", ["known_questions.py", f"--output={tmp_path}"])
    answers("nothing")
    script.main()
    assert (tmp_path / "forget.jsonl").read_text("utf-8") == ""
    answers("What does chown change?")
    script.main()
    (kept,) = read_rows(Source(str(tmp_path / "forget.jsonl")))
    assert kept.values["question"] == "What does chown change?"
    (asked,) = read_rows(Source(str(tmp_path / "forget_options.jsonl")))
    listed = "What does chown change?\nA. Modes\nB. Owners\nC. Sizes\nWrite the right option."
    assert asked.values == {"question": listed, "answer": "Owners"}
    (asked,) = read_rows(Source(str(tmp_path / "forget_letters.jsonl")))
    suite = script.MultipleChoice(sources={"q": Source(str(tmp_path / "forget.jsonl"))})
    suite.benchmarks, suite.sources["q"].domain = [], "multiple_choice"
    (probe,) = suite.probes(None)
    assert asked.values == {"question": probe.turns[-1].content, "answer": "B"}
    kept = script.with_options(RIGHT, accepted=True)
    assert (kept["answer"], kept["accepted"]) == ("Modes", ["Modes"])
    assert json.loads((tmp_path / "known.json").read_text("utf-8"))["forget"] == {
        "asked": 2,
        "answered": 1,
    }
    assert '"answered": 1' in capsys.readouterr().out
    turned = read_rows(Source(str(tmp_path / "reversed/forget.jsonl")))[0].values
    assert (turned["choices"], turned["answer"]) == (["Sizes", "Owners", "Modes"], 2)


def test_no_questions_are_refused_before_anything_is_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["known_questions.py", f"--output={folder}", "--limit=0"])
    with pytest.raises(InputError, match=r"`--limit` should be at least 1\. Found 0"):
        script.main()
    assert not folder.exists()
