"""Outcomes on disk as they come, so that an evaluation that was stopped goes on where it was.

One JSON line per outcome, headed by a key made of everything that decides the outcome. A line that
was not written to its end is no line.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Forced, Outcome, Probe
from lit_unlearn.utils.files import lock_alone, writing

ENGINE_VERSION = 1
"""Raised whenever the same probe would get another outcome from the same model."""

FILE_NAME = "outcomes.jsonl"
_LOCK_NAME = "outcomes.lock"
_HEAD = b'{"key": "'
_KEY_END = len(_HEAD) + 64


def content_key(fingerprint: str, variant: str, probe: Probe, answer_key: str = "") -> str:
    """64 hexadecimal digits: the same exactly where the outcome must be.

    Args:
        fingerprint: `Subject.fingerprint`.
        variant: Name and key of the variant.
        probe: What is asked. Its id and the row behind it do not count in the usual engine.
        answer_key: `Suite.answer_key`; where it is not empty, the row counts too.
    """
    content = [
        ENGINE_VERSION,
        fingerprint,
        variant,
        [asdict(turn) for turn in probe.turns],
        probe.plain,
        probe.prefill,
        dict(probe.candidates),
        None if probe.generation is None else asdict(probe.generation),
        answer_key,
        asdict(probe.example) if answer_key else None,
    ]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Store:
    """The outcomes in one folder; to be opened by one process at a time.

    Args:
        folder: Where `outcomes.jsonl` is or will be; made when opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self._places: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Lock the folder, find out what is there, and cut off a line that was not finished.

        Raises:
            InputError: Another process has it open, or the file is of another kind.
        """
        with ExitStack() as opening:
            self._lock(opening)
            self._file = opening.enter_context(self.path.open("a+b"))
            self._places = self._index(self._file)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file = None
        self._open.close()

    def read(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """The stored outcomes among those asked for.

        Raises:
            InputError: A line that is damaged; the message names file and repair.
        """
        file = self._opened()
        found = {}
        for key in keys:
            if key in self._places:
                file.seek(self._places[key])
                found[key] = self._outcome(file.readline())
        return found

    def append(self, outcomes: Mapping[str, Outcome]) -> None:
        """Add outcomes by their keys; afterwards they are on the disk."""
        file = self._opened()
        end = file.seek(0, os.SEEK_END)
        lines = [_line(key, outcome) for key, outcome in outcomes.items()]
        with writing(self.path):
            rest = memoryview(b"".join(lines))
            while rest:  # past the buffer, which would be written once more on closing
                rest = rest[os.write(file.fileno(), rest) :]
            os.fsync(file.fileno())
        for key, line in zip(outcomes, lines, strict=True):
            self._places[key] = end
            end += len(line)

    def _lock(self, opening: ExitStack) -> None:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = opening.enter_context((self.folder / _LOCK_NAME).open("a"))
        lock_alone(lock, self.folder, "evaluation")

    def _index(self, file: IO[bytes]) -> dict[str, int]:
        """Where each outcome's line begins; the rest after the last whole line is cut off."""
        places: dict[str, int] = {}
        start = 0
        file.seek(0)
        for line in file:
            if not line.endswith(b"\n"):
                break
            if not line.startswith(_HEAD):
                raise self._damaged(line)
            places[line[len(_HEAD) : _KEY_END].decode("ascii", "replace")] = start
            start += len(line)
        file.truncate(start)
        return places

    def _outcome(self, line: bytes) -> Outcome:
        try:
            entry: dict[str, Any] = json.loads(line)
            if entry.get("crc32", _sum(entry)) != _sum(entry):  # older lines have none
                raise self._damaged(line)
            forced = {name: _forced(columns) for name, columns in entry["forced"].items()}
            return Outcome(entry["probe_id"], forced, tuple(entry["replies"]))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(line) from error

    def _damaged(self, line: bytes) -> InputError:
        return InputError(
            f"File {self.path}: expected lines that an evaluation wrote, found one that begins "
            f"with {line[:90]!r}; delete that line, or give another folder"
        )

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise RuntimeError("a Store is used inside `with`")
        return self._file


def _line(key: str, outcome: Outcome) -> bytes:
    """Floats are written with all digits that matter; NaN and infinities as Python reads them."""
    entry = {
        "key": key,
        "probe_id": outcome.probe_id,
        "replies": list(outcome.replies),
        "forced": {
            name: [f.log_probs, [int(hit) for hit in f.hits], f.means, f.deviations]
            for name, f in outcome.forced.items()
        },
    }
    return json.dumps(entry | {"crc32": _sum(entry)}).encode() + b"\n"


def _sum(entry: Mapping[str, Any]) -> int:
    """Tells a line in which a bit was flipped."""
    content = {name: value for name, value in entry.items() if name != "crc32"}
    return zlib.crc32(json.dumps(content).encode())


def _forced(columns: list[list[float]]) -> Forced:
    log_probs, hits, means, deviations = columns
    return Forced(
        tuple(log_probs), tuple(bool(hit) for hit in hits), tuple(means), tuple(deviations)
    )
