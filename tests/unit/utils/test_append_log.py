"""A file that only grows: exact, whole after a kill, and never wrong about what it holds."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.utils.append_log import AppendLog
from tests.processes import FORKED


class Texts(AppendLog[str]):
    """Texts by key."""

    file_name = "texts.jsonl"
    user = "test"

    def encode(self, value: str) -> dict[str, Any]:
        return {"text": value}

    def decode(self, fields: dict[str, Any]) -> str:
        return fields["text"] + ""


def held(folder: Path) -> dict[str, str]:
    with Texts(folder) as log:
        return log.read()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Within one opening and after another; lone surrogates and line breaks too."""
    folder = tmp_path / "new" / "folder"
    values = {"a": "\u2028 \u00e9 \ud83d\n", "b": "", "c": '", "crc32": 5}'}
    with Texts(folder) as log:
        log.append({"a": values["a"], "b": ""})
        log.append({"c": values["c"]})
        assert log.read(["c", "a", "none"]) == {"c": values["c"], "a": values["a"]}
    assert held(folder) == values
    lines = (folder / "texts.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(values.values())


def test_the_last_of_two_lines_with_one_key_counts(tmp_path: Path) -> None:
    for text in ("1", "2"):
        with Texts(tmp_path) as log:
            log.append({"a": text})
            assert log.read() == {"a": text}
    assert held(tmp_path) == {"a": "2"}


def test_a_torn_line_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    """Cut at every byte, at the line break too; then the log goes on behind the whole lines."""
    with Texts(tmp_path) as log:
        log.append({"a": "1", "b": "\u00e9"})
    path = tmp_path / "texts.jsonl"
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = dict(list({"a": "1", "b": "\u00e9"}.items())[: sum(e <= length for e in ends)])
        assert held(tmp_path) == kept
        with Texts(tmp_path) as log:
            log.append({"c": "more"})
        assert held(tmp_path) == {**kept, "c": "more"}


def append_for_ever(folder: Path) -> None:
    """Lines of about 0.5 MB, so that a kill falls into the writing of one."""
    with Texts(folder) as log:
        for number in range(10_000):
            log.append({str(number): str(number) * 200_000})


@FORKED
def test_a_killed_process_leaves_whole_lines_and_no_lock(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=append_for_ever, args=(tmp_path,))
    child.start()
    path = tmp_path / "texts.jsonl"
    deadline = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    found = held(tmp_path)
    assert len(found) >= 2
    assert found == {str(k): str(k) * 200_000 for k in range(len(found))}


def test_what_the_disk_refuses_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some bytes are written before the disk is full; none of them stays."""
    write = os.write
    with Texts(tmp_path) as log:
        log.append({"a": "1"})

        def full(descriptor: int, data: memoryview) -> int:
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return write(descriptor, data[:10])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(InputError, match=r"texts\.jsonl: cannot be written: .*make room"):
            log.append({"b": "2"})
        monkeypatch.undo()
        assert log.read() == {"a": "1"}
        log.append({"c": "3"})
    assert held(tmp_path) == {"a": "1", "c": "3"}


def hold(folder: Path, connection: Connection) -> None:
    with Texts(folder):
        connection.send("open")
        connection.recv()


@FORKED
def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second is told so at once; when the first is through, it may."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=hold, args=(tmp_path, there))
    child.start()
    assert here.recv() == "open"
    with pytest.raises(InputError, match="another process that writes there"):
        held(tmp_path)
    here.send("close")
    child.join()
    assert held(tmp_path) == {}


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Texts(tmp_path):
        _ = 1 / 0
    assert held(tmp_path) == {}
    (tmp_path / "texts.jsonl").write_text("{}\n")
    for _ in range(2):  # the second time it is the file again, not a lock that was left
        with pytest.raises(InputError, match=r"texts\.jsonl:1 should match its CRC-32"):
            held(tmp_path)
    assert (tmp_path / "texts.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [("text 1", "text 2"), ('"text 1"', "null"), ('"key"', '"kex"'), ("\n", " \n")],
)
def test_a_changed_line_is_refused(tmp_path: Path, old: str, new: str) -> None:
    with Texts(tmp_path) as log:
        log.append({"a": "text 0", "b": "text 1", "c": "text 3"})
    path = tmp_path / "texts.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace(old, new) + lines[2])
    with pytest.raises(InputError, match=r"texts\.jsonl:2 .*CRC-32.*delete that line"):
        held(tmp_path)


def test_fields_of_another_version_are_refused_where_they_are_read(tmp_path: Path) -> None:
    class Numbers(Texts):
        def encode(self, value: str) -> dict[str, Any]:
            return {"number": int(value)}

    with Numbers(tmp_path) as log:
        log.append({"a": "1"})
    with pytest.raises(InputError, match=r"texts\.jsonl should match its CRC-32"):
        held(tmp_path)


def test_it_is_used_inside_with(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside `with`"):
        Texts(tmp_path).read([])
