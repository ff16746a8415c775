"""Files and folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.utils.atomic import whole_file, whole_folder, write_text


def test_folder_takes_its_place_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    with whole_folder(target) as folder:
        folder.joinpath("a").write_text("1", "utf-8")
        assert not target.exists()
        assert folder.parent == target.parent
    assert [p.name for p in target.iterdir()] == ["a"]
    assert target.stat().st_mode & 0o777 == 0o755
    with whole_folder(target) as folder:
        folder.joinpath("b").write_text("2", "utf-8")
    assert [p.name for p in target.iterdir()] == ["b"]


def test_after_an_error_everything_is_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with whole_folder(target) as folder:
        folder.joinpath("a").write_text("1", "utf-8")
    with pytest.raises(FileNotFoundError), whole_folder(target) as folder:
        folder.joinpath("b", "c").write_text("2", "utf-8")
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "a"]


def test_a_file_that_another_library_writes(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with whole_file(target) as temporary:
        temporary.write_bytes(b"1")
        assert not target.exists()
    with pytest.raises(FileNotFoundError), whole_file(target) as temporary:
        temporary.write_bytes(tmp_path.joinpath("none").read_bytes())
    assert target.read_bytes() == b"1"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_text_is_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "\u00e9\r\n\u2028")
    assert (tmp_path / "a").read_bytes() == "\u00e9\r\n\u2028".encode()


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "1")
    with pytest.raises(InputError, match=r"a.b: cannot be written: .*take a folder"):
        write_text(tmp_path / "a" / "b", "2")
