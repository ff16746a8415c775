"""Only what the product wrote, and what is unchanged since, is replaced."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.utils.atomic import whole_file
from lit_unlearn.utils.digests import write_checked_json
from lit_unlearn.utils.ownership import (
    MARKER,
    check_targets,
    claim,
    clear,
    free_name,
    is_foreign,
    own_file,
    own_folder,
    record,
    write_text,
)
from tests.processes import forked


def export(target: Path, text: str = "weights") -> None:
    with own_folder(target) as folder:
        (folder / "model.safetensors").write_text(text, "utf-8")
        (folder / "part").mkdir()
        (folder / "part" / "more").write_text(text, "utf-8")


def test_own_files_are_replaced(tmp_path: Path) -> None:
    for text in ("1", "2"):
        write_text(tmp_path / "a.json", text)
        export(tmp_path / "model", text)
    assert (tmp_path / "a.json").read_text("utf-8") == "2"
    assert (tmp_path / "model" / "part" / "more").read_text("utf-8") == "2"
    assert not is_foreign(tmp_path)


def put(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine", "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: put(root / "a.json"), id="file changed"),
        pytest.param(lambda root: put(root / "model" / "NOTES.txt"), id="file added"),
        pytest.param(lambda root: put(root / "model" / "part" / "more"), id="file below changed"),
        pytest.param(lambda root: put(root / "model" / "new" / "net.py"), id="package added"),
        pytest.param(
            lambda root: ((root / "a.json").unlink(), (root / "a.json").symlink_to("nowhere")),
            id="link to nothing",
        ),
        pytest.param(
            lambda root: (root / "model" / "link").symlink_to("model.safetensors"), id="link added"
        ),
        pytest.param(lambda root: (root / MARKER).write_text("{}", "utf-8"), id="marker damaged"),
        pytest.param(
            lambda root: (
                (root / "a.json").unlink(),
                (root / "a.json").mkdir(),
                put(root / "a.json" / "x"),
            ),
            id="folder in its place",
        ),
        pytest.param(
            lambda root: ((root / "a.json").unlink(), (root / "a.json").mkdir()),
            id="empty folder in its place",
        ),
    ],
)
def test_files_of_the_user_are_not(tmp_path: Path, change: Callable[[Path], object]) -> None:
    write_text(tmp_path / "a.json", "1")
    export(tmp_path / "model")
    change(tmp_path)
    before = snapshot(tmp_path)
    targets = [tmp_path / "a.json", tmp_path / "model"]
    with pytest.raises(InputError, match="which lit-unlearn did not write, or which was"):
        check_targets(tmp_path, targets, [], "--output")
    with pytest.raises(InputError, match="move it away, or give another folder"):  # noqa: PT012
        write_text(tmp_path / "a.json", "2")
        export(tmp_path / "model", "2")
    after = snapshot(tmp_path)
    own = {MARKER, "a.json", f"model/{MARKER}"}  # a.json, where only the model is the user's
    assert {k: v for k, v in after.items() if k not in own or k not in before} == {
        k: v for k, v in before.items() if k not in own
    }


def snapshot(root: Path) -> dict[str, bytes]:
    files = (file for file in root.rglob("*") if file.is_file() and not file.is_symlink())
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def test_a_kill_between_marker_and_file_is_no_change_of_the_user(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_text(target, "1")

    def die() -> int:
        with own_file(target) as temporary:
            temporary.write_text("2", "utf-8")
            Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, method-assign, return-value]
        return 0

    assert forked(die) == -signal.SIGKILL
    assert target.read_text("utf-8") == "1"
    write_text(target, "3")
    with whole_file(target) as temporary:  # as a process that had no time for its marker
        temporary.write_text("4", "utf-8")
    assert is_foreign(target)


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    export(tmp_path / "run" / "model")
    model = tmp_path / "run" / "model"
    for folder, target in (
        (model.parent, model),
        (model, model / "new"),
        (model / "a", model / "a/b"),
    ):
        with pytest.raises(InputError, match="should hold nothing that the command reads"):
            check_targets(folder, [target], [model], "--output")
    check_targets(tmp_path / "other", [tmp_path / "other" / "model"], [model], "--output")


def test_a_file_in_a_folder_s_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    (tmp_path / "dangling").symlink_to("nowhere")
    for place in ("file", "file/run", "dangling"):
        with pytest.raises(InputError, match="Found a file in its place") as error:
            check_targets(tmp_path / place, [tmp_path / place / "a"], [], "--output")
        assert "\n" not in str(error.value)


def test_streams_are_own_until_they_end(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    claim(log)
    log.write_text("half", "utf-8")
    assert not is_foreign(log)
    claim(log)
    record(log)
    assert not is_foreign(log)
    log.write_text("changed", "utf-8")
    with pytest.raises(InputError, match=r"Found output\.log"):
        claim(log)


def test_what_is_cleared_and_not_own_is_moved_aside(tmp_path: Path) -> None:
    write_text(tmp_path / "own", "1")
    (tmp_path / "mine").write_text("2", "utf-8")
    (tmp_path / "mine.1").write_text("3", "utf-8")
    for name in ("own", "mine", "missing"):
        clear(tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {MARKER, "mine.1", "mine.2"}
    assert free_name(tmp_path / "mine").name == "mine.3"


def test_results_of_a_version_without_marker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run's tables are taken over; config.yaml, which users edit, and the model move aside."""
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    write_checked_json(run / "preparation.json", {"key": "1"})
    for name in ("config.yaml", "summary.json", "mine.txt"):
        (run / name).write_text(name, "utf-8")
    (run / "model" / "README.md").write_text("Made with lit_unlearn 0.1.0 in 3 steps.", "utf-8")
    targets = [run / name for name in ("config.yaml", "summary.json", "preparation.json", "model")]
    check_targets(run, targets, [], "--output")
    assert (run / "config.yaml.1").read_text("utf-8") == "config.yaml"
    assert (run / "model.1" / "README.md").exists()
    assert "config.yaml is of an earlier version; it was moved to" in caplog.text
    for name in ("config.yaml", "summary.json"):
        write_text(run / name, "new")
    assert is_foreign(run / "mine.txt")
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.json").write_text(json.dumps({"schema_version": 1}), "utf-8")
    with pytest.raises(InputError, match=re.escape("Found metrics.json")):
        check_targets(other, [other / "metrics.json"], [], "--output")
