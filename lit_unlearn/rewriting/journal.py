"""Every reply on disk before the next step, so that a run that was killed asks nothing twice.

One JSON line per reply, headed by a key made of everything that decides it. A line that was not
written to its end is no line; one that was changed since, as its CRC-32 tells, ends the run.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.utils.files import lock_alone, writing

FILE_NAME = "journal.jsonl"


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    seconds: float = 0.0
    """From the question to the reply; of a batch, that of all."""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    reply_id: str = ""
    """The server's own name for it."""
    cut: bool = False
    """The reply ended at its largest length."""


def content_key(model: str, ask: Ask, attempt: int) -> str:
    """80 hexadecimal digits: the same exactly where the same is asked of the same model.

    The first 16 are `model_key`.
    """
    content = [model, ask.version, ask.prompt, ask.max_tokens, attempt]
    return model_key(model) + sha256(json.dumps(content).encode()).hexdigest()


def model_key(model: str) -> str:
    """How the keys of all replies of one model begin."""
    return sha256(model.encode()).hexdigest()[:16]


class Journal:
    """The replies of one folder, by their keys; made by `open_journal`."""

    def __init__(self, file: IO[bytes], replies: dict[str, Reply]) -> None:
        self._file = file
        self.replies: Mapping[str, Reply] = replies
        self._replies = replies

    def append(self, replies: Mapping[str, Reply]) -> None:
        """Add replies; afterwards they are on the disk."""
        lines = [_line({"key": key, **asdict(reply)}) for key, reply in replies.items()]
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._replies.update(replies)


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal of a folder, which no other process may have open; a torn last line is cut off.

    Args:
        folder: Made where it is missing.

    Raises:
        InputError: Another process has it open, the disk does not take it, or a line is not as it
            was written.
    """
    path = folder / FILE_NAME
    with ExitStack() as stack:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+b"))
        lock_alone(file, folder, "run")
        yield Journal(file, _read(file, path))


def _read(file: IO[bytes], path: Path) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    end = 0
    file.seek(0)
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            break
        try:
            entry = json.loads(line)
            if entry.pop("crc32") != _sum(entry):
                raise ValueError("the line was changed")
            key = entry.pop("key")
            replies[key] = Reply(**entry)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"File {path}:{number}: expected a line as a run wrote it, with its CRC-32 (that "
                f"earlier versions did not write), found {line[:60]!r}; delete that line, or give "
                "another folder"
            ) from error
        end += len(line)
    file.truncate(end)
    return replies


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps({**entry, "crc32": _sum(entry)}).encode() + b"\n"


def _sum(entry: Mapping[str, Any]) -> int:
    """Tells a line in which something was changed."""
    return zlib.crc32(json.dumps(entry).encode())
