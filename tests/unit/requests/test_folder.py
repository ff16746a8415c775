"""Folder of a request: digests that follow the content, and a log of steps that survives kills."""

from __future__ import annotations

from pathlib import Path

from lit_unlearn.requests.folder import Step, StepLog, content_digest, read_steps
from lit_unlearn.utils.ownership import write_text


def test_the_latest_state_of_a_step_counts(tmp_path: Path) -> None:
    assert read_steps(tmp_path) == {}
    with StepLog(tmp_path) as log:
        log.append({"rows": Step("started", {"request": "1"}), "before": Step("started")})
        log.append({"rows": Step("finished", {"request": "1"}, {"rows": "2"}, 3.0)})
    with (tmp_path / StepLog.file_name).open("ab") as file:
        file.write(b'{"key": "before", "sta')  # a kill while it was written
    found = read_steps(tmp_path)
    assert found["rows"] == Step("finished", {"request": "1"}, {"rows": "2"}, 3.0)
    assert found["before"].state == "started"


def test_a_digest_follows_names_and_content_but_no_marker(tmp_path: Path) -> None:
    write_text(tmp_path / "a/x", "1")
    first = content_digest(tmp_path / "a")
    write_text(tmp_path / "b/x", "1")  # with a marker of its own
    (tmp_path / "a/.lit_unlearn.json").unlink()
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b") == first
    write_text(tmp_path / "b/y", "1")
    assert content_digest(tmp_path / "b") != first
