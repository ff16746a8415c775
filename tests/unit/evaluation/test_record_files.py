"""``metrics.json`` and ``rows.jsonl``: read back as written, or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.record_files import (
    METRICS,
    ROWS,
    is_evaluation,
    read_evaluation,
    write_evaluation,
)
from lit_unlearn.utils.ownership import MARKER
from tests.unit.report.records import evaluation, figures, row, suite


def test_reads_what_was_written(tmp_path: Path) -> None:
    """NaN is compared by its text, as it equals nothing."""
    record = evaluation(
        suite("tofu", figures(), [row(0, reply="so\u2028it\ngoes"), row(1)], steps=[1, 2]),
        suite("empty", [], []),
        balance=figures(0.25),
    )
    write_evaluation(tmp_path / "made" / "here", record)
    assert is_evaluation(tmp_path / "made" / "here")
    assert repr(read_evaluation(tmp_path / "made" / "here")) == repr(record)


def test_the_files_are_strict_json_that_anyone_can_read(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation(suite("tofu", figures(), [row(0)])))
    content = json.loads((tmp_path / METRICS).read_text("utf-8"), parse_constant=pytest.fail)
    assert content["schema_version"] == 1
    (entry,) = content["suites"]
    assert (entry["suite"], entry["seconds"], entry["cpu_seconds"], entry["rows"]) == (
        "tofu",
        1.5,
        2.5,
        1,
    )
    assert entry["figures"][1] == {
        "name": "quality",
        "value": None,
        "unit": "p-value, 0 to 1",
        "count": 0,
        "low": None,
        "high": None,
        "better": "neither",
        "note": "needs a reference",
    }
    line = json.loads((tmp_path / ROWS).read_text("utf-8"), parse_constant=pytest.fail)
    assert (line["suite"], line["row_id"]) == ("tofu", "forget/0")
    assert line["scores"] == {"recall": 1, "undefined": None}


def test_a_failed_write_leaves_the_earlier_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_evaluation(tmp_path, evaluation())
    before = (tmp_path / METRICS).read_text("utf-8")

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_evaluation(tmp_path, evaluation(model="another"))
    assert (tmp_path / METRICS).read_text("utf-8") == before
    assert {p.name for p in tmp_path.iterdir()} == {METRICS, ROWS, MARKER}


def change_metrics(folder: Path, **changes: object) -> None:
    content = json.loads((folder / METRICS).read_text("utf-8"))
    (folder / METRICS).write_text(json.dumps({**content, **changes}), "utf-8")


def change_figure(folder: Path, **changes: object) -> None:
    content = json.loads((folder / METRICS).read_text("utf-8"))
    content["suites"][0]["figures"][0] |= changes
    change_metrics(folder, suites=content["suites"])


def change_row(folder: Path, **changes: object) -> None:
    first, *others = (folder / ROWS).read_text("utf-8").splitlines()
    lines = [json.dumps(json.loads(first) | changes), *others]
    (folder / ROWS).write_text("\n".join(lines), "utf-8")


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no metrics": (lambda f: (f / METRICS).unlink(), "found no metrics.json in it"),
    "no rows": (lambda f: (f / ROWS).unlink(), "expected rows.jsonl beside metrics.json"),
    "no JSON": (lambda f: (f / METRICS).write_text("{"), "expected JSON"),
    "a list": (lambda f: (f / METRICS).write_text("[]"), "expected schema_version 1, found None"),
    "version": (lambda f: change_metrics(f, schema_version=9), "schema_version 1, found 9"),
    "keys": (lambda f: change_metrics(f, suites=[{}]), "expected the keys and values that"),
    "other rows": (lambda f: change_metrics(f, suites=[]), "expected 0 rows of suite tofu"),
    "cut": (lambda f: (f / ROWS).write_text('{"suite": "tofu", "ro'), "rows.jsonl, line 1: expect"),
    "no row": (lambda f: (f / ROWS).write_text('{"suite": "tofu"}'), "line 1: expected a row"),
    "a figure": (lambda f: change_figure(f, value="bad"), "others (TypeError: value is 'bad')"),
    "an interval": (lambda f: change_figure(f, low=[0]), "others (TypeError: low is [0])"),
    "a direction": (lambda f: change_figure(f, better="up"), "others (TypeError: better is 'up')"),
    "a fact": (lambda f: change_metrics(f, model=3), "others (TypeError: model is 3)"),
    "versions": (lambda f: change_metrics(f, versions={"torch": 2}), "versions is {'torch': 2}"),
    "a score": (lambda f: change_row(f, scores={"recall": "bad"}), "scores is {'recall': 'bad'}"),
    "a reply": (lambda f: change_row(f, reply=None), "rows.jsonl, line 1: expected a row"),
    "fewer": (lambda f: (f / ROWS).write_text(""), "expected 2 rows of suite tofu"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    write_evaluation(tmp_path, evaluation())
    damage, message = BREAKS[name]
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        read_evaluation(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
