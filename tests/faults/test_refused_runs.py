"""A command that is refused leaves nothing behind, not even a folder with a lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.__main__ import main
from lit_unlearn.utils.locks import take_lock
from tests.faults.owned_runs import config, written

PASSAGES = "[{path: builtin:passages, domain: passage, limit: 1}]"
REFUSED = {
    "fit rows": ["fit", "--config=mini.yaml", "--data.objectives.forget.sources.0.path=bad.jsonl"],
    "fit model": ["fit", "--config=mini.yaml", "--model.student.path=empty"],
    "fit folder": ["fit", "--config=mini.yaml", "--trainer.default_root_dir=runs/a/b/c",
                   "--data.objectives.retain.sources.0.path=bad.jsonl"],
    "evaluate data": ["evaluate", "random-tiny", "--suite=tofu", "--output=runs/a"],
    "rewrite model": ["rewrite", "--backend=LocalModel", "--backend.path=empty",
                      f"--forget={PASSAGES}", "--output=runs/a"],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_command_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text('{"question": 3}', "utf-8")
    written(tmp_path / "mini.yaml", config())
    before = sorted(tmp_path.rglob("*"))
    assert main(REFUSED[name]) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_was_made_for_a_lock(tmp_path: Path) -> None:
    """It is removed with the lock, unless something was written there or it was there before."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for place in (mine, tmp_path / "new" / "run", tmp_path / "used" / "run"):
        lock = take_lock(place / ".lock", "run")
        if place.parent.name == "used":
            (place / "config.yaml").touch()
        lock.release()
        lock.release()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {
        "mine",
        "mine/.lock",
        "used",
        "used/run",
        "used/run/.lock",
        "used/run/config.yaml",
    }
