"""Ledger: an append-only file of all requests on a model, in which each entry seals the one before.

Each line is an entry: the request, its number, and the SHA-256 of the line before. The file
``<ledger>.head`` beside it has the number of entries and the SHA-256 of the last line, so that
entries that were removed from the end or added there are found too.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.requests.request import ID
from lit_unlearn.utils.append_log import AppendLog, line_key, log_line
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.paths import local_path, read_file

__all__ = ["LedgerEntry", "add_entry", "check_ledger", "latest", "read_ledger", "request_folder"]

_NOTHING = "0" * 64
"""Digest in place of that of a line before the first one."""


@dataclass(frozen=True)
class LedgerEntry:
    """One request that was carried out."""

    request: str
    """Id of the request."""
    folder: str
    """Folder of the request, absolute or relative to the ledger's folder."""
    manifest: str
    """SHA-256 of the request's ``manifest.json``."""
    start: str
    """Fingerprint of the model before."""
    end: str
    """Fingerprint of the model afterwards."""
    verdict: str
    date: str
    """Time at which the entry was added, in ISO 8601, as this machine's clock had it."""


@dataclass(frozen=True)
class _Sealed:
    """One line of a ledger."""

    entry: LedgerEntry
    number: int
    previous: str
    """SHA-256 of the line before."""
    digest: str
    """SHA-256 of this line."""


@dataclass(frozen=True)
class _Head:
    """Content of the file beside a ledger."""

    entries: int = 0
    last: str = _NOTHING
    """SHA-256 of the last line."""
    next: str = ""
    """SHA-256 of a line that is being added."""


class _Log(AppendLog[dict[str, Any]]):
    user = "ledger"

    def __init__(self, file: Path) -> None:
        super().__init__(file.parent, shared=True)  # waits: another request may end just now
        self.path = file

    file_name = ""

    def encode(self, value: dict[str, Any]) -> dict[str, Any]:
        return value

    def decode(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields


def add_entry(ledger: str | Path, entry: LedgerEntry) -> int:
    """Add an entry to a ledger, which may be new, and return the entry's number.

    A request has a further entry if it was carried out again with another manifest.

    Raises:
        InputError: The ledger is damaged.
    """
    file = local_path(ledger)
    _checked(file)  # the log removes a last line that was cut off, which may be damage here
    with _Log(file) as log:
        lines = _checked(file)
        known = [line for line in lines if line.entry.request == entry.request]
        if known and known[-1].entry.manifest == entry.manifest:
            _write_head(file, _Head(len(lines), lines[-1].digest))  # if a kill came before that
            return known[-1].number
        number, last = len(lines) + 1, lines[-1].digest if lines else _NOTHING
        sealed = {"number": number, "previous": last, **asdict(entry)}
        key = sealed.pop("request")
        digest = _digest(log_line({"key": key, **sealed}))
        _write_head(file, _Head(len(lines), last, digest))
        log.append({key: sealed})
        _write_head(file, _Head(number, digest))
    return number


def check_ledger(ledger: str | Path, request: str, folder: Path) -> None:
    """Check before a request is carried out that its entry can be added.

    Args:
        ledger: File of the ledger, which may be new.
        request: Id of the request.
        folder: Its folder.

    Raises:
        InputError: The ledger is damaged or cannot be written, or has another request of this id.
    """
    file = local_path(ledger)
    known = latest([line.entry for line in _checked(file)])
    place = next(each for each in file.parents if os.path.lexists(each))  # also for the head
    closed = [p for p in (place, file) if os.path.lexists(p) and not os.access(p, os.W_OK)]
    if closed or not place.is_dir():
        raise InputError(
            f"Parameter `ledger` = '{file}' should be a file that can be written. Found that "
            f"{(closed or [place])[0]} refuses it; name another file."
        )
    others = [request_folder(ledger, entry) for entry in known if entry.request == request]
    taken = [each for each in others if each.resolve() != folder.resolve()]
    if taken and (taken[0] / "manifest.json").is_file():
        raise InputError(
            f"Parameter `id` should be one that ledger {file} does not have yet. Found {request!r} "
            f"in it, for the request in {taken[0]}; change the id, or give --output {taken[0]} to "
            "carry out that request again."
        )


def read_ledger(ledger: str | Path) -> tuple[LedgerEntry, ...]:
    """Return the entries of a ledger, after checking all of them.

    A last line that a kill cut off is no entry.

    Raises:
        ChangedError: An entry was changed, removed, moved or added; the message names it.
        InputError: There is no ledger, or it cannot be read.
    """
    file = local_path(ledger)
    if not file.is_file():
        raise InputError(
            f"Ledger {file} should be a file that `lit-unlearn erase` wrote. Found none; correct "
            "the path."
        )
    return tuple(line.entry for line in _checked(file))


def latest(entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Return the last entry of each request, in the order of the first ones."""
    return list({entry.request: entry for entry in entries}.values())


def request_folder(ledger: str | Path, entry: LedgerEntry) -> Path:
    """Return the folder of an entry's request."""
    return local_path(ledger).parent / entry.folder


# --------------------------------------------------------------------------------------- checking


def _checked(file: Path) -> list[_Sealed]:
    """Return the lines of a ledger; refuse a damaged one."""
    try:
        content = read_file(file) if file.exists() else b""
    except OSError as error:
        raise InputError(f"Ledger {file} should be readable. Found: {error.strerror}.") from error
    head = _read_head(file, empty=not content)
    *whole, rest = content.split(b"\n")
    lines: list[_Sealed] = []
    for number, text in enumerate(whole, start=1):
        line = _parsed(text + b"\n")
        if line is None:
            raise _damaged(file, f"entry {number} changed")
        lines.append(line)
    problem = _misplaced(lines) or _wrong_end(lines, head, cut=bool(rest))
    problem = problem or _broken_link(lines, head)
    if problem:
        raise _damaged(file, problem)
    return lines


def _damaged(file: Path, problem: str) -> ChangedError:
    return ChangedError(
        f"Ledger {file} should be as it was written. Found {problem}; restore it and "
        f"{_head_file(file).name} from a copy."
    )


def _parsed(text: bytes) -> _Sealed | None:
    """Return the line of a text, or None if it is damaged."""
    try:
        content = json.loads(text) if line_key(text) is not None else {}
        values = [content["key"], *(content[field.name] for field in fields(LedgerEntry)[1:])]
        number, previous = content["number"], content["previous"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if type(number) is not int or not all(isinstance(text, str) for text in (*values, previous)):
        return None
    if not ID.fullmatch(values[0]):  # names a folder of an audit
        return None
    return _Sealed(LedgerEntry(*values), number, previous, _digest(text))


def _misplaced(lines: Sequence[_Sealed]) -> str:
    """Return which entry is missing, moved or there twice, or "" if none is."""
    counts = Counter(line.number for line in lines)
    for place, line in enumerate(lines, start=1):
        if counts[line.number] > 1:
            return f"entry {_named(line)} {counts[line.number]} times"
        if place not in counts:
            return f"no entry {place}"
        if line.number != place:
            return f"entry {_named(line)} in the place of entry {place}"
    return ""


def _wrong_end(lines: Sequence[_Sealed], head: _Head, *, cut: bool) -> str:
    """Return which entry was removed from the end or added there, or "" if none was.

    `cut` says that text without a line break follows the lines.
    """
    count = len(lines)
    if count < head.entries:
        return f"entry {count + 1} changed at its end" if cut else f"no entry {count + 1}"
    if count > head.entries and not _is_finished(lines, head):
        return f"an additional entry {_named(lines[head.entries])}"
    if cut and (count > head.entries or not head.next):
        return f"an additional entry {count + 1}"
    return ""


def _is_finished(lines: Sequence[_Sealed], head: _Head) -> bool:
    """Return whether the line that is being added is whole; a kill came before the last step."""
    return len(lines) == head.entries + 1 and lines[-1].digest == head.next


def _broken_link(lines: Sequence[_Sealed], head: _Head) -> str:
    """Return which entry is not the one that was sealed, or "" if all are."""
    digests = [_NOTHING, *(line.digest for line in lines)]
    sealed = [line.previous for line in lines]
    sealed.append(head.next if _is_finished(lines, head) else head.last)
    broken = [at for at, pair in enumerate(zip(digests, sealed, strict=True)) if len({*pair}) > 1]
    if not broken:
        return ""
    # a changed `previous` breaks both the link to the entry before and the one to the next
    number = broken[0] + 1 if broken[0] == 0 or broken[0] + 1 in broken else broken[0]
    return f"entry {_named(lines[number - 1])} changed" if lines else "a changed head"


def _named(line: _Sealed) -> str:
    return f"{line.number} (request {line.entry.request!r})"


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


# --------------------------------------------------------------------------------------- the head


def _head_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.head")


def _write_head(file: Path, head: _Head) -> None:
    write_text(_head_file(file), json.dumps(asdict(head), indent=1) + "\n")


def _read_head(file: Path, *, empty: bool) -> _Head:
    """Return the head of a ledger; without any entry there may be none.

    Raises:
        ChangedError: It is missing or damaged.
    """
    beside = _head_file(file)
    if empty and not beside.exists():
        return _Head()
    try:
        head = _Head(**json.loads(read_file(beside)))
        if [type(value) for value in asdict(head).values()] != [int, str, str]:
            raise TypeError("wrong types")
    except (OSError, ValueError, TypeError, RecursionError):
        raise ChangedError(
            f"File {beside} should hold the number of entries of {file.name} and the digest of the "
            "last one. Found none, or a damaged one; restore both files from a copy."
        ) from None
    return head
