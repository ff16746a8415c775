"""Rows of hidden states on disk, found by key: safetensors shards and a small index.

A shard that the index does not name does not exist: it is written whole, and only then named. The
checksum of an entry is compared whenever it is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.utils.files import write_text, writing

INDEX_FILE = "index.json"
_CHECKED_ON_OPENING = 2**28
"""Bytes up to which the digests of all shards are compared whenever a store is opened."""


@dataclass(frozen=True)
class Entry:
    """The hidden states of one row, at neighbouring positions."""

    key: bytes
    """16 bytes; says which row it is."""
    first: int
    """The position of the first hidden state."""
    hidden: Tensor
    """``[n, D]``."""


@dataclass(frozen=True)
class Place:
    """Where an entry lies."""

    shard: str
    line: int
    """Of its first hidden state, in the shard."""
    first: int
    count: int
    checksum: int

    @property
    def last(self) -> int:
        """The position of the last hidden state."""
        return self.first + self.count - 1


class Store:
    """Entries in a folder. Reading maps the files into memory and needs no lock.

    Args:
        folder: Where the shards are; made if it is missing.
        teacher: Whose hidden states they are, for people to read; what the index says wins.

    Raises:
        InputError: The folder cannot be made, or what is in it is damaged.
    """

    def __init__(self, folder: Path, teacher: str = "") -> None:
        self.folder = folder
        self.teacher = teacher
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Teacher cache {folder}: the folder cannot be made ({error.strerror}). Name "
                "another one with `model.teacher.init_args.cache`, or set LIT_UNLEARN_CACHE."
            ) from None
        self.places: dict[bytes, Place] = {}
        self._shards: dict[str, str] = {}
        self._open: dict[str, Any] = {}
        self.refresh()

    # ------------------------------------------------------------------------------- reading

    def refresh(self) -> None:
        """Take up the shards that were added since, by this process or another.

        Raises:
            InputError: The index or a shard is damaged.
        """
        listed = self._read_index()
        fresh = [name for name in listed if name not in self._shards]
        if self.size() <= _CHECKED_ON_OPENING:
            self._check({name: listed[name] for name in fresh})
        for name in fresh:
            self._shards[name] = listed[name]
            self._learn(name)

    def size(self) -> int:
        """Bytes of all shards in the folder."""
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def read(self, key: bytes) -> Tensor:
        """``[n, D]``: the hidden states of an entry.

        Raises:
            KeyError: There is no such entry.
            InputError: It is damaged.
        """
        place = self.places[key]
        try:
            lines = self._file(place.shard).get_slice("hidden")
            found: Tensor = lines[place.line : place.line + place.count]
        except (SafetensorError, IndexError, TypeError, ValueError):
            raise self._damaged(place.shard) from None
        if _checksum(Entry(key, place.first, found)) != place.checksum:
            raise self._damaged(place.shard)
        return found

    def verify(self) -> None:
        """Compare every shard with its digest, however large the store is.

        Raises:
            InputError: A shard is not what was written.
        """
        self._check(self._shards)

    def _check(self, shards: dict[str, str]) -> None:
        for name, digest in shards.items():
            file = self.folder / name
            if not file.is_file() or _digest(file) != digest:
                raise self._damaged(name)

    def _damaged(self, name: str) -> InputError:
        return InputError(
            f"Teacher cache {self.folder}: {name} should be as it was written, by checksums and "
            f"{INDEX_FILE}. Found it damaged or missing. Delete the folder; the next run makes it "
            "again."
        )

    def _read_index(self) -> dict[str, str]:
        file = self.folder / INDEX_FILE
        if not file.exists():
            return {}
        try:
            index: dict[str, Any] = json.loads(file.read_text("utf-8"))
            shards: dict[str, str] = index["shards"]
            if all(re.fullmatch(r"\d{5,20}[.]safetensors", name) for name in shards):
                self.teacher = str(index.get("teacher", self.teacher))
                return dict(shards.items())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise self._damaged(INDEX_FILE)

    def _file(self, name: str) -> Any:
        if name not in self._open:
            try:
                self._open[name] = safe_open(self.folder / name, framework="pt")
            except (OSError, SafetensorError):
                raise self._damaged(name) from None
        return self._open[name]

    def _learn(self, name: str) -> None:
        """Take up a shard's entries; a later entry of the same row replaces an earlier one."""
        file, line = self._file(name), 0
        try:
            keys, spans = file.get_tensor("keys"), file.get_tensor("spans")
            sums = file.get_tensor("checksums").tolist()
            for key, (first, count), checksum in zip(keys, spans.tolist(), sums, strict=True):
                self.places[bytes(key.tolist())] = Place(name, line, first, count, checksum)
                line += count
        except (SafetensorError, ValueError, TypeError):
            raise self._damaged(name) from None

    # ------------------------------------------------------------------------------- writing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time is inside; others wait. What others added is taken up."""
        with ExitStack() as opened:
            with writing(self.folder):
                lock = opened.enter_context((self.folder / ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.refresh()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what a killed process has left."""
        for file in self.folder.glob("*.safetensors*"):
            if file.name not in self._shards:
                file.unlink()

    def append(self, entries: Sequence[Entry]) -> None:
        """Write a shard and name it in the index. Call it inside `locked`.

        Raises:
            InputError: It cannot be written; the index is as it was.
        """
        name = f"{len(self._shards):05}.safetensors"
        temporary = self.folder / f"{name}.part"
        tensors = {
            "hidden": torch.cat([entry.hidden for entry in entries]).cpu().contiguous(),
            "keys": torch.tensor([list(entry.key) for entry in entries], dtype=torch.uint8),
            "spans": torch.tensor([[entry.first, len(entry.hidden)] for entry in entries]),
            "checksums": torch.tensor([_checksum(entry) for entry in entries]),
        }
        with writing(temporary):
            save_file(tensors, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        digest = _digest(temporary)
        temporary.replace(self.folder / name)
        shards = {**self._shards, name: digest}
        index = {"teacher": self.teacher, "shards": shards}
        write_text(self.folder / INDEX_FILE, json.dumps(index, indent=1))
        self._shards = shards
        self._learn(name)


def _checksum(entry: Entry) -> int:
    """CRC-32 of all that an entry is: whose row, where in it, and the numbers."""
    hidden = entry.hidden.detach().cpu().contiguous().view(torch.uint8).numpy().data
    about = entry.key + entry.first.to_bytes(8, "big", signed=True)
    return zlib.crc32(hidden, zlib.crc32(about))


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
