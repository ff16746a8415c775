"""Files and folders appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.utils.files import whole_folder


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
