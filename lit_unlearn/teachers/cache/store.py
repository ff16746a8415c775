"""Hidden states of rows on disk, by key: safetensors shards and an index.

A shard is written completely or not at all, and is used once the index names it. The checksum of
an entry is compared whenever the entry is read.
"""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.utils.atomic import whole_file, write_text
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.locks import locked

__all__ = ["INDEX_FILE", "Entry", "Shards", "Stored"]

INDEX_FILE = "index.json"
_CHECKED_ON_OPENING = 2**28
"""Largest cache, in bytes, whose shards are compared with their digests whenever it is opened."""


@dataclass(frozen=True)
class Entry:
    """Hidden states of one row at consecutive positions."""

    key: bytes
    """Key of the row, 16 bytes."""
    first: int
    """Position of the first hidden state."""
    hidden: Tensor
    """``[n, D]`` hidden states."""


@dataclass(frozen=True)
class Stored:
    """Location of an entry on the disk."""

    shard: str
    line: int
    """Index of the first hidden state in the shard."""
    first: int
    """Position of the first hidden state in the row."""
    count: int
    checksum: int

    @property
    def last(self) -> int:
        """Position of the last hidden state in the row."""
        return self.first + self.count - 1


class Shards:
    """Entries in one folder. Reading maps the files into memory and needs no lock.

    Args:
        folder: Folder of the shards; created if it is missing.
        teacher: Name of the model, for messages; a name in an existing index is used instead.
        kind: Name of the cache in messages.
        setting: Config key that switches the cache off.
    """

    def __init__(
        self,
        folder: Path,
        teacher: str = "",
        kind: str = "Teacher cache",
        setting: str = "model.teacher.init_args.cache",
    ) -> None:
        self.folder, self.kind, self.setting, self.teacher = folder, kind, setting, teacher
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{kind} {folder}: cannot create the folder ({error.strerror}). Name another one "
                "in the config, or set LIT_UNLEARN_CACHE."
            ) from None
        self.entries: dict[bytes, Stored] = {}
        self._digests: dict[str, str] = {}
        self._open: dict[str, Any] = {}
        self.refresh()

    # ------------------------------------------------------------------------------- reading

    def refresh(self) -> None:
        """Read the index again, for shards that this process or another has added."""
        index = self._read_index()
        fresh = {name: digest for name, digest in index.items() if name not in self._digests}
        if self.size() <= _CHECKED_ON_OPENING:
            self._check(fresh)
        for name, digest in fresh.items():
            self._digests[name] = digest
            self._add_entries(name)

    def size(self) -> int:
        """Return the bytes of all shards in the folder."""
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def read(self, key: bytes) -> Tensor:
        """Return the hidden states ``[n, D]`` of an entry; raise an `InputError` on damage."""
        stored = self.entries[key]
        try:
            lines = self._file(stored.shard).get_slice("hidden")
            found: Tensor = lines[stored.line : stored.line + stored.count]
        except (SafetensorError, IndexError, TypeError, ValueError):
            raise self._damaged(stored.shard) from None
        if _checksum(Entry(key, stored.first, found)) != stored.checksum:
            raise self._damaged(stored.shard)
        return found

    def verify(self) -> None:
        """Compare every shard with its digest, however large the cache is."""
        self._check(self._digests)

    def _check(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            file = self.folder / name
            if not file.is_file() or file_digest(file) != digest:
                raise self._damaged(name)

    def _damaged(self, name: str) -> InputError:
        return InputError(
            f"{self.kind} {self.folder}: {name} should match its checksum. Found it damaged or "
            "missing. Delete the folder; the next run creates it again."
        )

    def _read_index(self) -> dict[str, str]:
        """Return the digest of each shard by its name."""
        file = self.folder / INDEX_FILE
        if not file.exists():
            return {}
        try:
            index: dict[str, Any] = json.loads(file.read_text("utf-8"))
            digests: dict[str, str] = dict(index["shards"].items())
            if all(re.fullmatch(r"\d{5,20}[.]safetensors", name) for name in digests):
                self.teacher = str(index.get("teacher", self.teacher))
                return digests
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

    def _add_entries(self, name: str) -> None:
        """Add the entries of a shard; a later entry of a row replaces an earlier one."""
        file, line = self._file(name), 0
        try:
            keys, spans = file.get_tensor("keys"), file.get_tensor("spans")
            sums = file.get_tensor("checksums").tolist()
            for key, (first, count), checksum in zip(keys, spans.tolist(), sums, strict=True):
                self.entries[bytes(key.tolist())] = Stored(name, line, first, count, checksum)
                line += count
        except (SafetensorError, ValueError, TypeError):
            raise self._damaged(name) from None

    # ------------------------------------------------------------------------------- writing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for the lock of the folder, read what others have added, and hold the lock."""
        with locked(self.folder / ".lock"):
            self.refresh()
            for file in self.folder.glob("*.safetensors*"):
                if file.name not in self._digests:  # left behind by a killed process
                    file.unlink()
            yield

    def append(self, entries: Sequence[Entry]) -> None:
        """Write a shard and add it to the index, inside `locked`; an error changes nothing."""
        name = f"{len(self._digests):05}.safetensors"
        tensors = {
            "hidden": torch.cat([entry.hidden for entry in entries]).cpu().contiguous(),
            "keys": torch.tensor([list(entry.key) for entry in entries], dtype=torch.uint8),
            "spans": torch.tensor([[entry.first, len(entry.hidden)] for entry in entries]),
            "checksums": torch.tensor([_checksum(entry) for entry in entries]),
        }
        with whole_file(self.folder / name) as temporary:
            save_file(tensors, temporary)
            digest = file_digest(temporary)
        digests = {**self._digests, name: digest}
        index = {"teacher": self.teacher, "shards": digests}
        write_text(self.folder / INDEX_FILE, json.dumps(index, indent=1))
        self._digests = digests
        self._add_entries(name)


def _checksum(entry: Entry) -> int:
    """Return the CRC-32 of an entry: key, position and hidden states."""
    hidden = entry.hidden.detach().cpu().contiguous().view(torch.uint8).numpy().data
    about = entry.key + entry.first.to_bytes(8, "big", signed=True)
    return zlib.crc32(hidden, zlib.crc32(about))
