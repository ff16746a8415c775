"""Replies are found again by all that decides them, those of earlier versions too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.journal import FILE_NAME, Journal, Reply, content_key, model_key
from lit_unlearn.rewriting.prompts import confirm
from lit_unlearn.rewriting.source_texts import QA

KEY = "9372c470eeadd5ecfcb244d8cbdc2b072ae58b4a3be60a31871b272fc8a3ccba1acabe41c82c0e4a"
LINE = (
    f'{{"key": "{KEY}", "text": "{{\\"x\\": \\"\\u00fc\\"}}", "seconds": 0.5, "prompt_tokens": 10, '
    '"reply_tokens": 3, "reply_id": "id", "cut": true, "crc32": 2834049644}\n'
)
"""Line of a journal of version 0.1.0."""
REPLY = Reply('{"x": "\u00fc"}', 0.5, 10, 3, "id", True)


def test_replies_of_earlier_runs_are_there(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append({"a": REPLY})
        journal.append({"b": Reply("")})
        assert journal.replies == {"a": REPLY, "b": Reply("")}
    with Journal(tmp_path) as journal:
        journal.append({"c": Reply("more")})
        assert journal.replies == {"a": REPLY, "b": Reply(""), "c": Reply("more")}


def test_a_journal_of_version_0_1_0(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(LINE, "ascii")
    with Journal(tmp_path) as journal:
        assert journal.replies == {content_key("model", confirm(QA("q", "a")), 0): REPLY}
        journal.append({KEY: REPLY})
    assert (tmp_path / FILE_NAME).read_text("ascii") == 2 * LINE


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"question": "mine"}\n', "utf-8")
    with pytest.raises(InputError, match=rf"{FILE_NAME}:1 .*delete that line"), Journal(tmp_path):
        pass
    assert (tmp_path / FILE_NAME).read_text("utf-8") == '{"question": "mine"}\n'


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", "utf-8")
    for folder in (file, file / "below"):
        with pytest.raises(InputError, match=r"file.*take a folder"), Journal(folder):
            pass
    assert file.read_text("utf-8") == "mine"


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
    assert [key.startswith(model_key("model")) for key in keys] == [key != keys[1] for key in keys]
