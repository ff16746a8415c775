"""Raw rows from the bytes of one file, and treatment of the rows that cannot be used."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lit_unlearn.errors import InputError, did_you_mean

__all__ = [
    "SUFFIXES",
    "BadRows",
    "OnBadRow",
    "RawRow",
    "bad_row",
    "file_type",
    "parse_file",
    "suggestion",
]

OnBadRow = Literal["error", "skip"]

SUFFIXES = (".json", ".jsonl", ".csv", ".txt")
"""File types that can be read; each also with ``.gz`` at the end."""

_REASONS_SHOWN = 3
_GZIP_RATIO, _GZIP_LEAST = 200, 2**26
"""Largest unpacked size: per packed byte (text has 3 to 30), or in bytes if that is more."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawRow:
    """One row as its file or hub data set gives it."""

    row_id: str
    """Row's own ``id``, or its number in the file, counted from 0."""
    values: dict[str, Any]
    """Values by column, with the columns renamed to those that the converters expect."""
    location: str
    """Location for error messages: ``file.jsonl:12`` or ``owner/name[config/split] row 12``."""
    answerless: bool = False
    """Whether the source has only questions, as its ``columns`` say."""


@dataclass
class BadRows:
    """Treatment of unusable rows: an error at the first one, or one warning with their number.

    Args:
        policy: ``error`` raises at the first one; ``skip`` counts them, and `report` logs them.
        source: Name of the source, for the messages.
    """

    policy: OnBadRow
    source: str
    count: int = 0
    """Number of rows left out so far."""
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.policy not in get_args(OnBadRow):
            raise InputError(
                f"Parameter `on_bad_row` should be error or skip. Found {self.policy!r}."
            )

    def add(self, error: InputError) -> None:
        """Raise ``error``, or count it.

        Raises:
            InputError: The given error, if the policy is ``error``.
        """
        if self.policy == "error":
            raise error
        self.count += 1
        if len(self.reasons) < _REASONS_SHOWN:
            self.reasons.append(str(error))

    def report(self) -> None:
        """Log one warning with the number of skipped rows and the first three reasons."""
        if self.count:
            _logger.warning(
                "Skipped %d bad row%s of %s; the first reasons: %s",
                self.count,
                "" if self.count == 1 else "s",
                self.source,
                " | ".join(self.reasons),
            )


def bad_row(location: str, reason: str) -> InputError:
    """Return the error about a row: its location, and the reason why it cannot be used."""
    return InputError(f"Bad row at {location}: {reason}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean x?)`` for the known name that is close to ``word``, or no text."""
    hint = did_you_mean(word, known)
    return f" ({hint})" if hint else ""


def file_type(name: str) -> str | None:
    """Return the suffix in `SUFFIXES` with which a file is read, or None for any other file."""
    plain = name.removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)


def parse_file(data: bytes, name: str, bad: BadRows) -> list[RawRow]:
    r"""Read all rows of one file, in its order.

    JSON files hold one array of objects or one object per line, whatever their suffix. CSV files
    have a header. In text files, each line that is not blank gives a row with the column ``text``.
    Only ``\n`` ends a line, since texts may hold U+0085 or U+2028.

    Args:
        data: Bytes of the file, still compressed if its name ends in ``.gz``.
        name: Name or path of the file, for its type and for the messages.
        bad: Object that takes the rows that cannot be used.

    Raises:
        InputError: The whole file cannot be read (broken gzip, not UTF-8, a broken array, broken
            quotes), or holds nothing, or a row is bad and the policy is ``error``.
    """
    text = _decode(data, name)
    suffix = file_type(name)
    if suffix == ".csv":
        rows = _csv_rows(text, name, bad)
    elif suffix == ".txt":
        rows = _text_rows(text, name)
    elif text.lstrip().startswith("["):
        rows = _array_rows(text, name, bad)
    else:
        rows = _line_rows(text, name, bad)
    result = list(rows)
    if not result and not bad.count:
        raise InputError(f"File {name} should hold rows. Found an empty file; give another one.")
    return result


def _decode(data: bytes, name: str) -> str:
    if name.endswith(".gz"):
        try:
            data = _unpacked(data, name)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"File {name} should be gzip-compressed. Found broken gzip data ({error}); copy "
                "the file again, or take `.gz` off its name if it is not compressed."
            ) from error
    elif data.startswith(b"\x1f\x8b"):
        raise InputError(
            f"File {name} should be plain text. Found gzip data; add `.gz` to its name."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        likely = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"
        raise InputError(
            f"File {name} should be UTF-8. Found byte 0x{data[error.start]:02x} in line {line}, "
            f"which is not; convert the file, for example with `iconv -f {likely} -t UTF-8`."
        ) from error


def _unpacked(data: bytes, name: str) -> bytes:
    """Unpack a gzip file, unless it holds far more bytes than text would."""
    most = max(_GZIP_LEAST, _GZIP_RATIO * len(data))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise InputError(
            f"File {name} should hold text. Found more than {most} bytes packed into {len(data)}; "
            "if that is right, unpack the file."
        )
    return found


def _json(text: str) -> object:
    """Parse a JSON value whose texts can be encoded.

    Raises:
        ValueError: It is not JSON, has a number of thousands of digits, or half a surrogate pair.
    """
    value: object = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # fails at half a surrogate pair
    return value


def _line_rows(text: str, name: str, bad: BadRows) -> Iterator[RawRow]:
    index = -1
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        index += 1
        location = f"{name}:{number}"
        try:
            value = _json(line)
        except (ValueError, RecursionError) as error:
            bad.add(bad_row(location, f"not JSON ({error}); the line begins {line[:40]!r}."))
            continue
        yield from _object_row(value, index, location, bad)


def _array_rows(text: str, name: str, bad: BadRows) -> Iterator[RawRow]:
    try:
        values: Any = _json(text)
    except (ValueError, RecursionError) as error:
        line = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"File {name}{line}: should be one JSON array of rows, because it begins with '['. "
            f"Found {error}; repair the array, or write one object per line."
        ) from error
    for index, value in enumerate(values):
        yield from _object_row(value, index, f"{name} row {index}", bad)


def _object_row(value: object, index: int, location: str, bad: BadRows) -> Iterator[RawRow]:
    if isinstance(value, dict):
        yield RawRow(str(index), value, location)
    else:
        kind = type(value).__name__
        bad.add(
            bad_row(location, f"should be a JSON object of columns. Found {kind} {value!r:.60}.")
        )


def _csv_rows(text: str, name: str, bad: BadRows) -> Iterator[RawRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    index, line = -1, 1
    try:
        header = next(reader, [])
        line = reader.line_num + 1
        for cells in reader:
            location, line = f"{name}:{line}", reader.line_num + 1
            if not cells:
                continue
            index += 1
            if len(cells) == len(header):
                yield RawRow(str(index), dict(zip(header, cells, strict=True)), location)
            else:
                reason = f"should have the {len(header)} cells of the header. Found {len(cells)}."
                bad.add(bad_row(location, reason))
    except csv.Error as error:
        raise InputError(
            f"File {name} line {line}: should be comma-separated values with a header. Found "
            f"{error}; check the quotes from this line on."
        ) from error


def _text_rows(text: str, name: str) -> Iterator[RawRow]:
    lines = (
        (number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()
    )
    for index, (number, line) in enumerate(lines):
        yield RawRow(str(index), {"text": line.removesuffix("\r")}, f"{name}:{number}")
