"""The library function: what it returns, writes and shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.backends import Rules
from lit_unlearn.rewriting.rewrite import RewriteSettings, rewrite
from tests.unit.rewriting.test_pipeline import Scripted, pairs

FORGET = [Source("builtin:forget", limit=3)]
PASSAGES = [Source("builtin:passages", domain="passage", limit=2)]


def test_rows_by_rule(tmp_path: Path) -> None:
    settings = RewriteSettings(backend=Rules(), forget=FORGET, output=tmp_path / "out")
    result = rewrite(settings)
    assert [file.name for file in result.files] == [
        *("forget.jsonl", "keep.jsonl", "anchors.jsonl"),
        *("rejected.jsonl", "report.json", "report.html"),
    ]
    rows = [json.loads(line) for line in result.files[0].read_text("utf-8").splitlines()]
    assert [row["question"] for row in rows] == [c.qa.question for c in result.accepted("forget")]
    named = {key for row in rows for key in row["provenance"]["settings"]}
    assert named == set(settings.row_settings())
    assert "backend" not in named


def test_a_dry_run_writes_no_rows(tmp_path: Path) -> None:
    shown = io.StringIO()
    for backend in (Rules(), Scripted()):
        settings = RewriteSettings(
            backend=backend, keep=PASSAGES, output=tmp_path / "out", dry_run=True
        )
        assert rewrite(settings, Console(file=shown)).files == []
    assert not list(tmp_path.rglob("*.jsonl"))  # nothing was asked, so there is no journal either
    assert "rules: no calls; rows: 0 forget" in shown.getvalue()
    assert "scripted: at most 4 calls" in " ".join(shown.getvalue().split())


def test_a_model_is_asked_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backend = Scripted(rate='{"rating": 1}', write=pairs())
    settings = RewriteSettings(backend=backend, keep=PASSAGES, output=tmp_path)
    result = rewrite(settings)
    asked = len(backend.asked)
    assert {lost.reason for lost in result.lost} == {"rated below 3 of 5"}
    assert rewrite(settings).lost == result.lost
    assert len(backend.asked) == asked > 0
    assert capsys.readouterr() == ("", "")


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="sources of rows to forget or to keep"):
        RewriteSettings(backend=Rules())
    with pytest.raises(InputError, match="`questions` should be at least 1"):
        RewriteSettings(backend=Rules(), forget=FORGET, questions=0)
