"""Steps: done once, gone on with after a kill, and begun anew for other inputs without a loss."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from lit_unlearn.requests.folder import RequestFolder, read_steps
from lit_unlearn.requests.steps import Steps


def do(root: Path, text: str, inputs: str = "1", *, killed: bool = False) -> str:
    printed = io.StringIO()
    steps = Steps(RequestFolder(root), Console(file=printed, width=200), 1)
    output = root / "out/file"

    def work() -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, "utf-8")
        if killed:
            raise KeyboardInterrupt

    steps.do("work", "some work", {"i": inputs}, [output], work)
    return printed.getvalue()


def content(root: Path, name: str = "out") -> str:
    return (root / name / "file").read_text("utf-8")


def test_a_finished_step_is_not_repeated(tmp_path: Path) -> None:
    assert "Step 1 of 1: some work" in do(tmp_path, "a")
    assert "done before" in do(tmp_path, "b")
    assert content(tmp_path) == "a"
    assert read_steps(tmp_path)["work"].outputs.keys() == {"out/file"}


def test_a_killed_step_goes_on_with_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        do(tmp_path, "half", killed=True)
    assert read_steps(tmp_path)["work"].state == "started"
    do(tmp_path, "whole")
    assert content(tmp_path) == "whole"
    assert not (tmp_path / "out.1").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_other_inputs_begin_anew_and_lose_nothing(tmp_path: Path, killed: bool) -> None:
    if killed:
        with pytest.raises(KeyboardInterrupt):
            do(tmp_path, "old", killed=True)
    else:
        do(tmp_path, "old")
    assert "moved to" in do(tmp_path, "new", inputs="2")
    assert (content(tmp_path), content(tmp_path, "out.1")) == ("new", "old")


def test_outputs_that_were_changed_are_kept_and_made_again(tmp_path: Path) -> None:
    do(tmp_path, "a")
    (tmp_path / "out/other").write_text("beside", "utf-8")
    assert "done before" in do(tmp_path, "a")
    (tmp_path / "out/file").write_text("mine", "utf-8")
    assert "changed since" in do(tmp_path, "a")
    assert (content(tmp_path), content(tmp_path, "out.1")) == ("a", "mine")


def test_a_step_is_due_until_it_is_finished_with_its_outputs(tmp_path: Path) -> None:
    steps = Steps(RequestFolder(tmp_path), Console(quiet=True), 1)
    output = tmp_path / "out/file"
    assert steps.is_due("work", {"i": "1"}, [output])
    do(tmp_path, "a")
    assert not steps.is_due("work", {"i": "1"}, [output])
    assert steps.is_due("work", {"i": "2"}, [output])
    output.unlink()
    assert steps.is_due("work", {"i": "1"}, [output])
