"""`torchrun -m lit_unlearn evaluate`: two processes give the rows and figures of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lit_unlearn.__main__ import main
from lit_unlearn.evaluation.record_files import ROWS, read_evaluation
from tests.processes import FORKED, in_processes

LENGTH = "--suites.boundary.max_new_tokens=2"
COMMAND = ["evaluate", "random-tiny", "--suite=boundary", LENGTH, "--limit=3", "--device=cpu"]


def evaluated(folder: Path) -> tuple[str, dict[str, Any]]:
    """The rows, as they are in the file, and the figures; the start model is one more column."""
    record = read_evaluation(folder)
    figures = {figure.name: figure.value for figure in record.suites["boundary"].figures}
    return (folder / ROWS).read_text("utf-8"), figures


@FORKED
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    assert main([*COMMAND, f"--output={tmp_path / 'one'}"]) == 0
    two = [*COMMAND, f"--output={tmp_path / 'two'}", f"--start={tmp_path / 'one'}"]
    assert in_processes(2, lambda: main(two), tmp_path / "status", start=False) == [0, 0]
    assert evaluated(tmp_path / "two") == evaluated(tmp_path / "one")


@FORKED
def test_what_cannot_be_used_is_said_by_all(tmp_path: Path) -> None:
    wrong = [*COMMAND[:1], str(tmp_path / "nowhere"), *COMMAND[2:]]
    assert in_processes(2, lambda: main(wrong), tmp_path, start=False) == [2, 2]
