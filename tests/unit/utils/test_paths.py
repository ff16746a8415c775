"""Local paths as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.utils.paths import local_path, overlap


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~/x", "/home/ann/x"),
        ("$OUT/x", "/out/x"),
        ("${OUT}x/", "/outx"),
        ("runs/a/", "runs/a"),
        (".", "."),
        ("a b/c,lr=1e-5", "a b/c,lr=1e-5"),
    ],
)
def test_homes_and_variables(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("OUT", "/out")
    assert local_path(text) == Path(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$NOT_SET/x", "Found $NOT_SET without a value"),
        ("~nobody_here/x", "Found no home of ~nobody_here"),
        ("s3://bucket/x", "Found an address"),
    ],
)
def test_paths_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(InputError) as error:
        local_path(text)
    assert words in str(error.value)


def test_overlap_is_seen_behind_links(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    assert overlap(tmp_path / "link/run", tmp_path / "model")
    assert overlap(tmp_path / "model", tmp_path / "link/config.json")
    assert not overlap(tmp_path / "model2", tmp_path / "model")
    (tmp_path / "loop").symlink_to("loop")
    assert not overlap(tmp_path / "loop", tmp_path / "model")
