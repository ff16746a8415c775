"""`lit-unlearn cache verify`: what is listed, and that damage is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lit_unlearn import __main__ as dispatcher
from lit_unlearn.errors import InputError
from lit_unlearn.teachers.cache import store as cache_store
from lit_unlearn.teachers.cache.store import Entry, Shards


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two caches: `a` in two shards, one row of which was read again, and `b`."""
    monkeypatch.setenv("COLUMNS", "150")

    def entry(key: int, count: int) -> Entry:
        return Entry(bytes([key] * 16), 0, torch.randn(count, 8))

    for name, shards in {"a": [[(1, 3), (2, 4)], [(1, 5)]], "b": [[(1, 2)]]}.items():
        store = Shards(tmp_path / name, teacher=f"org/{name}")
        with store.locked():
            for rows in shards:
                store.append([entry(*row) for row in rows])
    return tmp_path


def verify(folder: Path) -> int:
    return dispatcher.main(["cache", "verify", "--folder", str(folder)])


def test_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(root) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "org/" in line]
    assert [line[1:8:2] for line in lines] == [["a", "org/a", "2", "9"], ["b", "org/b", "1", "2"]]
    assert verify(root / "b") == 0
    assert "org/a" not in capsys.readouterr().out


def test_damage_that_opening_does_not_see(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a number of a hidden state, in a cache that is too large for a check at each opening."""
    monkeypatch.setattr(cache_store, "_CHECKED_ON_OPENING", 0)
    shard = root / "a" / "00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-17] ^= 1  # the 16 bytes of the key come last
    shard.write_bytes(content)
    store = Shards(root / "a")
    assert len(store.read(bytes([2] * 16))) == 4
    with pytest.raises(InputError, match=r"00001[.]safetensors should match its checksum"):
        store.read(bytes([1] * 16))
    assert verify(root) == 2
    out, error = capsys.readouterr()
    assert "damaged" in out
    assert "org/b" in out
    assert error.count("\n") == 1
    assert f"{root / 'a'}: 00001.safetensors should match its checksum" in error
    assert "Delete the folder" in error


def test_damaged_positions_are_seen_when_they_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another first position fits the shard, but not the row's checksum."""
    monkeypatch.setattr(cache_store, "_CHECKED_ON_OPENING", 0)
    shard = root / "b" / "00000.safetensors"
    tensors = load_file(shard)
    tensors["spans"][0, 0] += 1
    save_file(tensors, shard)
    with pytest.raises(InputError, match=r"should match its checksum.*Delete the folder"):
        Shards(root / "b").read(bytes([1] * 16))


def test_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path) == 2
    assert "should be a teacher cache" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_indices_without_a_teacher_can_be_read(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of caches that were made before it was written down."""
    index = root / "b" / "index.json"
    index.write_text(index.read_text().replace('"teacher"', '"other"'))
    assert verify(root / "b") == 0
    assert "not recorded" in capsys.readouterr().out
