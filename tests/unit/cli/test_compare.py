"""``lit-unlearn compare``: what is common is tested, what is not is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_unlearn.__main__ import main
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.compare import compare, headings, not_common
from lit_unlearn.evaluation.probes import Figure, Row
from lit_unlearn.evaluation.record_files import METRICS, write_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord
from tests.unit.report.records import UNIT, evaluation, suite


def recalls(*scores: float, name: str = "tofu", **settings: object) -> EvaluationRecord:
    rows = [Row(f"forget/{n}", "forget", {"recall": s}) for n, s in enumerate(scores)]
    figure = Figure("forget/recall", sum(scores) / len(scores), UNIT, len(scores), better="lower")
    return evaluation(suite(name, [figure], rows, **settings))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(**records: EvaluationRecord) -> list[str]:
    for name, record in records.items():
        write_evaluation(Path(name), record)
    return list(records)


def test_runs_are_tested_against_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Eight rows recalled, none after `a`: p = 2 / 2 ** 8; `b` still has them all: p = 1."""
    runs = write(start=recalls(*[1.0] * 8), a=recalls(*[0.0] * 8), b=recalls(*[1.0] * 8))
    assert main(["compare", *runs, "--output=out"]) == 0
    content = json.loads(Path("out/compare.json").read_text("utf-8"))
    assert content["schema_version"] == 1
    assert [run["name"] for run in content["runs"]] == ["start", "a", "b"]
    assert content["first"] == "start"
    (found,) = content["comparisons"]["a"]
    assert found == {
        "suite": "tofu",
        "figure": "forget/recall",
        "rows": 8,
        "first": 1.0,
        "second": 0.0,
        "test": "McNemar, exact",
        "p_value": 2 / 2**8,
        "p_holm": 2 / 2**8,
    }
    assert content["comparisons"]["b"][0]["p_value"] == 1.0
    assert content["not_common"] == []
    out = capsys.readouterr().out
    assert "p 0.008 *" in out
    assert "p 1.000" in out
    assert "out/compare.html" in out
    assert "p 0.008 *" in Path("out/compare.html").read_text("utf-8")
    assert Path("out/pictures/tofu.png").exists()


def test_the_function_alone_writes_nothing(tmp_path: Path) -> None:
    runs = write(start=recalls(*[1.0] * 8), a=recalls(*[0.0] * 8))
    found = compare(runs)
    assert list(found.records) == ["start", "a"]
    assert [each.p_holm for each in found.comparisons["a"]] == [2 / 2**8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "start"]


def test_what_is_not_common_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    one = recalls(1.0, 1.0, 0.0)
    two = recalls(1.0, 0.0, count=2)
    extra = recalls(1.0, name="muse")
    both = EvaluationRecord("m", "f", {**two.suites, **extra.suites})
    runs = write(one=one, two=both)
    assert main(["compare", *runs]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Suite muse is only in two and is not compared." in out
    assert "Suite tofu has other settings in two than in one." in out
    assert "Suite tofu: 2 rows are common to one (3) and two (2); only these are tested." in out
    content = json.loads(Path("runs/compare/compare.json").read_text("utf-8"))
    assert [c["rows"] for c in content["comparisons"]["two"]] == [2]
    assert len(content["not_common"]) == 3


def test_nothing_is_said_of_equals() -> None:
    assert not_common({"a": recalls(1.0), "b": recalls(0.0)}) == []


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["a/model", "b/model"], ["a/model", "b/model"]),
        (["x/a/model", "x/b/other"], ["model", "other"]),
        (["out", "out/start"], ["out", "start"]),
    ],
)
def test_headings_are_the_shortest_that_differ(folders: list[str], expected: list[str]) -> None:
    assert headings([Path(folder) for folder in folders]) == expected


def test_headings_of_the_same_folder() -> None:
    with pytest.raises(InputError, match="Found a folder twice"):
        headings([Path("a"), Path("b"), Path("a")])


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    write(a=recalls(1.0), b=recalls(1.0, name="muse"), old=recalls(1.0))
    Path("old", METRICS).write_text('{"schema_version": 0}', "utf-8")
    Path("empty").mkdir()
    for args, message in (
        (["a"], "at least two folders. Found 1"),
        ([], "runs"),
        (["a", "empty"], "empty: expected the folder of an evaluation, found no metrics.json"),
        (["a", "nowhere"], "nowhere: expected the folder of an evaluation"),
        (["a", "b"], "evaluations with rows in common. Found none"),
        (["a", "old"], "expected schema_version 1, found 0"),
        (["a", "a"], "different folders"),
        (["a", "b", "--outptu=x"], "outptu"),
    ):
        assert main(["compare", *args]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not Path("runs").exists()
