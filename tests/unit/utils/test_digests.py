"""Digests do not change between versions: they name caches and stores of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.utils.digests import (
    file_digest,
    json_digest,
    read_checked_json,
    text_digest,
    write_checked_json,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of no bytes (FIPS 180-4)."""


def test_known_values(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert file_digest(tmp_path / "a") == text_digest("") == EMPTY
    assert json_digest({"b": [1, None], "a": "\ud800"}) == text_digest(
        '{"a": "\\ud800", "b": [1, null]}'
    )
    assert json_digest(Path("x")) == json_digest("x")


def test_a_checked_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    write_checked_json(file, {"a": [1, "\u00e9"], "b": None})
    assert read_checked_json(file) == {"a": [1, "\u00e9"], "b": None}
    file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
    assert read_checked_json(file) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"content": 1}', "[" * 5000, "\x00"])
def test_other_files(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.json"
    assert read_checked_json(file) is None
    file.write_text(content)
    assert read_checked_json(file) is None
