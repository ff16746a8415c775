"""Append-only JSON Lines file of values by key, which survives kills and detects damage."""

import json
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Generic, Self, TypeVar

from lit_unlearn.errors import InputError
from lit_unlearn.utils.disk import writing
from lit_unlearn.utils.locks import locked, take_lock

__all__ = ["AppendLog", "T", "line_key", "log_line"]

T = TypeVar("T")
_BEGINNING = b'{"key": "'
_KEY = rb'"([^"\\]*+(?:\\u[0-9a-f]{4}[^"\\]*+)*+)"'
"""Key as JSON; other letters than those of ASCII are escaped."""
_LINE = re.compile(rb'(\{"key": ' + _KEY + rb'.*), "crc32": (\d{1,10})\}\n', re.DOTALL)


class AppendLog(ABC, Generic[T]):
    """Context manager for a file with values of one kind, by key.

    Each line is a JSON object: the key, the fields of the value, and the CRC-32 of the text before
    it. A last line without line break was cut off by a kill and is removed. Any other damaged line
    is an error. Of two lines with the same key the later one is used.

    Args:
        folder: Folder of the file. ``with`` creates it, and locks it against other processes.
        shared: Whether the file is a cache of several runs: ``with`` waits for other processes, and
            damaged lines are ignored, so that their values are computed again.
    """

    file_name: ClassVar[str]
    user: ClassVar[str]
    """Name of the work that opens the file, for messages."""

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self.path = folder / self.file_name
        self.shared = shared
        self.found = 0
        """Number of values that `read` has returned."""
        self._starts: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        self._open = ExitStack()

    @abstractmethod
    def encode(self, value: T) -> dict[str, Any]:
        """Return the JSON fields of a value."""

    @abstractmethod
    def decode(self, fields: dict[str, Any]) -> T:
        """Return the value of JSON fields."""

    def __enter__(self) -> Self:
        """Open the file, check every line, and remove a last line that was cut off.

        Raises:
            InputError: Another process has the file open, the disk refuses it, or a line is
                damaged; the message names the line and the repair.
        """
        with ExitStack() as opening:
            lock = self.path.with_suffix(".lock")
            if self.shared:
                opening.enter_context(locked(lock))
            else:
                opening.callback(take_lock(lock, self.user).release)
            with writing(self.path):
                file = opening.enter_context(self.path.open("a+b"))
            self._starts = self._index(file)
            self._file = file
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None and self._file.seek(0, os.SEEK_END) == 0:
            self.path.unlink(missing_ok=True)  # nothing was added, not even by earlier processes
        self._file = None
        self._open.close()

    def read(self, keys: Iterable[str] | None = None) -> dict[str, T]:
        """Return the stored values of some keys, or of all; raise an `InputError` on damage."""
        file, found = self._opened(), {}
        for key in self._starts if keys is None else keys:
            if key not in self._starts:
                continue
            file.seek(self._starts[key])
            line = file.readline()
            try:
                fields = json.loads(line)
                del fields["key"], fields["crc32"]
                found[key] = self.decode(fields)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                if not self.shared:
                    raise self._damaged(str(self.path), line) from error
        self.found += len(found)
        return found

    def share(self, keys: Iterable[str]) -> float:
        """Return the share of some keys that is stored; the log must not be open.

        Raises:
            InputError: See `__enter__`.
        """
        wanted = set(keys)
        if not wanted or not self.path.is_file():
            return 0.0
        with self:
            return sum(key in self._starts for key in wanted) / len(wanted)

    def append(self, values: Mapping[str, T]) -> None:
        """Add values by their keys: all are on the disk afterwards, or none after an error."""
        file = self._opened()
        end = file.seek(0, os.SEEK_END)
        lines = [log_line({"key": key, **self.encode(value)}) for key, value in values.items()]
        try:
            with writing(self.path):
                rest = memoryview(b"".join(lines))
                while rest:  # bypasses the buffer, which closing the file would write again
                    rest = rest[os.write(file.fileno(), rest) :]
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise
        for key, line in zip(values, lines, strict=True):
            self._starts[key] = end
            end += len(line)

    def _index(self, file: IO[bytes]) -> dict[str, int]:
        """Return the position of each key's line in the file."""
        starts: dict[str, int] = {}
        start = 0
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                if not _BEGINNING.startswith(line[: len(_BEGINNING)]):
                    raise self._damaged(f"{self.path}:{number}", line)
                break
            key = line_key(line)
            if key is not None:
                starts[key] = start
            elif not self.shared:
                raise self._damaged(f"{self.path}:{number}", line)
            start += len(line)
        file.truncate(start)
        return starts

    def _damaged(self, place: str, line: bytes) -> InputError:
        return InputError(
            f"File {place} should match its CRC-32. Found a damaged line that begins with "
            f"{line[:60]!r}; delete that line, or give another folder."
        )

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise RuntimeError(f"{type(self).__name__} must be used inside `with`")
        return self._file


def line_key(line: bytes) -> str | None:
    """Return the key of a whole line with its line break; None if the line is damaged."""
    parts = _LINE.fullmatch(line)
    if parts is None or zlib.crc32(parts[1] + b"}") != int(parts[3]):
        return None
    try:
        return str(json.loads(b'"' + parts[2] + b'"'))
    except ValueError:  # no text that `json.dumps` writes
        return parts[2].decode(errors="replace")


def log_line(fields: Mapping[str, Any]) -> bytes:
    """Return the line of a key and its fields.

    Floats have all digits; NaN and infinities are written as Python does.
    """
    text = json.dumps(fields).encode()
    return text[:-1] + b', "crc32": %d}\n' % zlib.crc32(text)
