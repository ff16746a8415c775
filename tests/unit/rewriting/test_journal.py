"""What was said is on the disk, whole lines only, and is found again."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.journal import FILE_NAME, Journal, Reply, content_key, open_journal
from lit_unlearn.rewriting.material import QA
from lit_unlearn.rewriting.prompts import confirm

FORKED = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
REPLIES = {"a": Reply('{"x": "ü\n"}', 0.5, 10, 3, "id", True), "b": Reply("")}


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Killed in the middle of a line, a run finds exactly the whole lines, and goes on behind."""
    with open_journal(tmp_path) as journal:
        for key, reply in REPLIES.items():
            journal.append({key: reply})
    path = tmp_path / FILE_NAME
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    assert len(ends) == 2
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in ends)
        with open_journal(tmp_path) as journal:
            assert journal.replies == dict(list(REPLIES.items())[:whole])
            journal.append({"c": Reply("more")})
        with open_journal(tmp_path) as journal:
            assert list(journal.replies) == [*list(REPLIES)[:whole], "c"]


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"question": "mine"}\n', "utf-8")
    with (
        pytest.raises(InputError, match=rf"{FILE_NAME}:1: .*delete that line"),
        open_journal(tmp_path),
    ):
        pass
    assert (tmp_path / FILE_NAME).read_text("utf-8") == '{"question": "mine"}\n'


@pytest.mark.parametrize("change", ["a letter", "null", "an earlier version"])
def test_a_changed_line_is_not_used(tmp_path: Path, change: str) -> None:
    with open_journal(tmp_path) as journal:
        journal.append({"a": Reply("Lima")})
    path = tmp_path / FILE_NAME
    line = path.read_text("utf-8")
    assert '"crc32": ' in line
    path.write_text(
        {
            "a letter": line.replace("Lima", "Lime"),
            "null": line.replace('"Lima"', "null"),
            "an earlier version": line[: line.index(', "crc32"')] + "}\n",
        }[change],
        "utf-8",
    )
    with pytest.raises(InputError, match=r"1: .*CRC-32.*delete"), open_journal(tmp_path):
        pass


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", "utf-8")
    for folder in (file, file / "below"):
        with pytest.raises(InputError, match=r"file.*take a folder"), open_journal(folder):
            pass
    assert file.read_text("utf-8") == "mine"


def _try(folder: Path, told: multiprocessing.SimpleQueue[str]) -> None:
    try:
        with open_journal(folder):
            told.put("open")
    except InputError as error:
        told.put(str(error))


@FORKED
def test_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    told: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    with open_journal(tmp_path) as journal:
        assert isinstance(journal, Journal)
        child = context.Process(target=_try, args=(tmp_path, told))
        child.start()
        child.join()
    assert "another process" in told.get()


def test_a_key_is_all_that_decides_a_reply() -> None:
    ask = confirm(QA("q", "a"))
    keys = [
        content_key("model", ask, 0),
        content_key("other", ask, 0),
        content_key("model", ask, 1),
        content_key("model", confirm(QA("q", "b")), 0),
        content_key("model", replace(ask, version="confirm-2"), 0),
        content_key("model", replace(ask, max_tokens=99), 0),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key("model", confirm(QA("q", "a")), 0) == keys[0]
