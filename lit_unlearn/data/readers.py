"""Raw rows from the bytes of one file."""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lit_unlearn.data.raw_rows import BadRows, RawRow, bad_row
from lit_unlearn.errors import InputError

__all__ = ["SUFFIXES", "file_type", "parse_file"]

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet")
"""File types that can be read; each also with ``.gz`` at the end."""

_ROW_KEYS = frozenset(
    (
        *("messages", "conversations", "conversation", "dialogue", "prompt", "chosen"),
        *("question", "query", "answer", "text", "passage", "instruction", "choices"),
    )
)
"""Columns that identify a JSON object as a row, since a row may also hold lists of objects."""
_GZIP_RATIO, _GZIP_LEAST = 200, 2**26
"""Maximum unpacked size per packed byte (text has 3 to 30), and in bytes if that is more."""


def file_type(name: str) -> str | None:
    """Return the suffix in `SUFFIXES` with which a file is read, or None for any other file."""
    plain = name.removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), None)


def parse_file(data: bytes, name: str, bad: BadRows, split: str = "train") -> list[RawRow]:
    r"""Read all rows of one file, in its order.

    JSON files hold one array of objects, one object with such an array (``{"data": [...]}``), or
    one object per line, with any suffix; ``split`` selects one of several arrays. CSV and TSV
    files have a header. In text files, each line that is not blank gives a row with the column
    ``text``. Only ``\n`` ends a line, since texts may hold U+0085 or U+2028. A file whose name ends
    in ``.gz`` is unpacked. Rows that cannot be used are added to ``bad``.

    Raises:
        InputError: The whole file cannot be read (broken gzip, not UTF-8, a broken array, broken
            quotes), or holds nothing, or a row is bad and the policy is ``error``.
    """
    suffix = file_type(name)
    parquet = suffix == ".parquet"
    result = _parquet_rows(data, name) if parquet else _text_rows(data, name, suffix, bad, split)
    if not result and not bad.count:
        raise InputError(f"File {name} should hold rows. Found none; give another one.")
    return result


def _text_rows(
    data: bytes, name: str, suffix: str | None, bad: BadRows, split: str
) -> list[RawRow]:
    text = _decode(data, name)
    if suffix in (".csv", ".tsv"):
        return [*_csv_rows(text, name, bad, "\t" if suffix == ".tsv" else ",")]
    if suffix == ".txt":
        lines = [pair for pair in enumerate(text.split("\n"), start=1) if pair[1].strip()]
        return [
            RawRow(str(index), {"text": line.removesuffix("\r")}, f"{name}:{number}")
            for index, (number, line) in enumerate(lines)
        ]
    if text.lstrip().startswith("["):
        rows: list[Any] | None = _array(text, name)
    elif suffix == ".json" or text.lstrip("{ \n").startswith('"data"'):
        rows = _object_with_rows(text, name, split)
    else:
        rows = None
    if rows is None:
        return [*_line_rows(text, name, bad)]
    return [r for i, v in enumerate(rows) for r in _object_row(v, i, f"{name} row {i}", bad)]


def _parquet_rows(data: bytes, name: str) -> list[RawRow]:
    import pyarrow
    from pyarrow import parquet

    if name.endswith(".gz"):
        data = _unpacked(data, name)
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        _check_columns(file.schema_arrow.names, name)
        values: list[dict[str, Any]] = file.read().to_pylist()
    except InputError:
        raise
    except Exception as error:  # damaged files raise errors of every kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"File {name} should be a parquet file. Found: {reason}; copy the file again, or give "
            "it the suffix of its format."
        ) from error
    return [RawRow(str(i), row, f"{name} row {i}") for i, row in enumerate(values)]


def _check_columns(names: Sequence[str], name: str) -> None:
    """Refuse two columns with the same name, since one of them would be lost."""
    counts = Counter(column.strip() for column in names if column.strip())
    twice = [column for column, count in counts.items() if count > 1]
    if twice:
        raise InputError(
            f"File {name} should have columns of different names. Found "
            f"{', '.join(map(repr, twice))} more than once among {', '.join(map(repr, names))}; "
            "rename or remove one of them."
        )


def _decode(data: bytes, name: str) -> str:
    if name.endswith(".gz"):
        data = _unpacked(data, name)
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
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"File {name} should be gzip-compressed. Found broken gzip data ({error}); copy the "
            "file again, or take `.gz` off its name if it is not compressed."
        ) from error
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
    value: object = json.loads(text, object_pairs_hook=_object)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # fails at half a surrogate pair
    return value


class _Repeated(dict[str, Any]):
    """JSON object in which a key occurs twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(pairs)


def _object_with_rows(text: str, name: str, split: str) -> list[Any] | None:
    """Return the rows of a file that is one JSON object, or None for one object per line."""
    try:
        value: Any = _json(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if isinstance(value, _Repeated) or value.keys() & _ROW_KEYS:
        return None if "\n" not in text.strip() else [value]
    return _table(value, name, split)


def _table(value: dict[str, Any], name: str, split: str) -> list[Any] | None:
    """Return the rows in an object: under a key, under a key of an inner object, or by id."""
    tables: dict[str, list[Any]] = {
        key: rows
        for key, rows in value.items()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    }
    if not tables:
        within = [inner for inner in value.values() if isinstance(inner, dict)]
        if within and all(inner.keys() & _ROW_KEYS for inner in within):
            return within
        return _table(within[0], name, split) if len(within) == 1 else None
    if len(tables) > 1 and split not in tables:
        raise InputError(
            f"File {name} should hold rows under one key, or under `split`. Found rows under "
            f"{', '.join(map(repr, tables))}; set `split` of the source to one of them."
        )
    return tables[split] if split in tables else next(iter(tables.values()))


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


def _array(text: str, name: str) -> list[Any]:
    try:
        values: Any = _json(text)
    except (ValueError, RecursionError) as error:
        line = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"File {name}{line}: should be one JSON array of rows, because it begins with '['. "
            f"Found {error}; repair the array, or write one object per line."
        ) from error
    return list(values)


def _repeated(value: object) -> list[str]:
    """Return the keys of the first object within a value that has a key twice."""
    if isinstance(value, _Repeated):
        return list(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_repeated, inner)), [])


def _object_row(value: object, index: int, location: str, bad: BadRows) -> Iterator[RawRow]:
    if keys := _repeated(value):
        reason = f"should have each key once. Found one twice among {', '.join(keys)}, ..."
        bad.add(bad_row(location, f"{reason}; remove one of them."))
    elif isinstance(value, dict):
        yield RawRow(str(index), value, location)
    else:
        found = f"{type(value).__name__} {value!r:.60}"
        bad.add(bad_row(location, f"should be a JSON object of columns. Found {found}."))


def _csv_rows(text: str, name: str, bad: BadRows, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a passage may be long
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header: list[str] = []
    index, line = -1, 1
    try:
        header = next(reader, [])
        _check_columns(header, name)
        if len(header) == 1 and re.search(r"[;\t|]" if delimiter == "," else r"[;,|]", header[0]):
            raise InputError(
                f"File {name} should have {delimiter!r} between its columns. Found the header "
                f"{header[0]!r}; a .csv file has commas, a .tsv file tabs."
            )
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
        kind = "comma" if delimiter == "," else "tab"
        raise InputError(
            f"File {name} line {line}: should be {kind}-separated values with a header. Found "
            f"{error}; check the quotes from this line on."
        ) from error
