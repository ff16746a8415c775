"""Raw rows of a source: read from their place (`places`), filtered, with renamed columns."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from lit_unlearn.data.benchmarks import find_benchmark, known_names
from lit_unlearn.data.places import ROOT_VARIABLE, Place, Source, is_saved, resolve
from lit_unlearn.data.raw_rows import BadRows, OnBadRow, RawRow, bad_row, suggestion
from lit_unlearn.data.readers import parse_file
from lit_unlearn.errors import InputError
from lit_unlearn.utils.hub import hub_answers

__all__ = ["OnBadRow", "Place", "RawRow", "Source", "read_rows", "resolve", "rows_at"]

_logger = logging.getLogger(__name__)


def read_rows(
    source: Source, data_root: Path | None = None, on_bad_row: OnBadRow = "error"
) -> list[RawRow]:
    """Read the raw rows of a source; ``data_root`` is as in `resolve`.

    ``on_bad_row`` is ``error``, which stops at the first row that cannot be used, or ``skip``,
    which leaves such rows out and logs one warning with their number and the first three reasons.

    Raises:
        InputError: The source cannot be found or read, or no row is left.
    """
    bad = BadRows(on_bad_row, source.name)
    rows = rows_at(resolve(source, data_root), source, bad)
    bad.report()
    return rows


def rows_at(place: Place, source: Source, bad: BadRows) -> list[RawRow]:
    """Read rows as `read_rows` does, from a resolved place; ``bad`` collects unusable rows."""
    if place.folder is not None:
        rows = _copied_rows(source, place.folder)
    elif place.file is None:
        rows = _hub_rows(source, place)
    else:
        rows = parse_file(_read_bytes(place.file), str(place.file), bad, source.split)
    if place.note:
        _logger.warning("%s: %s.", source.name, place.note)
    rows = _with_own_ids(rows)
    for column, wanted in (*place.where.items(), *source.where.items()):
        rows = _filtered(rows, column, wanted, source, bad)
    rows = list(_wanted(_renamed(rows, place.columns, bad), source, bad))
    chosen = rows[source.offset :: source.every][: source.limit]
    if not chosen:
        repair = "lower `offset`." if rows else "widen `where`."
        raise InputError(
            f"Source {source.name!r} should have rows from `offset` {source.offset} on. Found "
            f"{len(rows)} usable rows and {bad.count} bad ones; "
            f"{bad.reasons[0] if bad.reasons else repair}"
        )
    return chosen


def _read_bytes(file: Path | Traversable) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"File {file} should be readable. Found: {error}; check its permissions."
        ) from error


def _hub_rows(source: Source, place: Place) -> list[RawRow]:
    hub_answers()  # if it does not, the next lines read only the hub's cache
    try:
        return _loaded(source, source.path)
    except Exception as error:  # the hub's client raises dozens of types
        raise _unreachable(source, place, error) from error


def _copied_rows(source: Source, folder: Path) -> list[RawRow]:
    import datasets

    kept = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        if is_saved(folder):
            return _numbered(source, _saved_rows(source, folder))
        kept.mkdir(parents=True, exist_ok=True)
        # a permanent cache would not notice that a file of the folder has changed
        with TemporaryDirectory(dir=kept, prefix="copy_") as once:
            return _loaded(source, str(folder), once)
    except InputError:
        raise
    except Exception as error:  # see `_hub_rows`
        raise InputError(
            f"Source {source.name!r} should be a part of the data set in {folder}. Found: "
            f"{_cause(error)} Correct `path`, `config` or `split`."
        ) from error


def _loaded(source: Source, path: str, cache: str | None = None) -> list[RawRow]:
    import datasets

    own = {} if cache is None else {"cache_dir": cache}
    table: Iterable[Mapping[str, Any]] = datasets.load_dataset(
        path, source.config, split=source.split, **own
    )
    return _numbered(source, table)


def _numbered(source: Source, table: Iterable[Mapping[str, Any]]) -> list[RawRow]:
    return [
        RawRow(str(index), dict(values), f"{source.name} row {index}")
        for index, values in enumerate(table)
    ]


def _saved_rows(source: Source, folder: Path) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a folder that ``save_to_disk`` wrote, with or without splits."""
    import datasets

    # reading a truncated memory-mapped file kills the process
    found: Any = datasets.load_from_disk(str(folder), keep_in_memory=True)
    whole = isinstance(found, dict)
    if whole and source.split not in found:
        raise InputError(
            f"Source {source.name!r} should be a split of the data set in {folder}. Found only "
            f"{', '.join(found)}; set `split`."
        )
    rows = found[source.split] if whole else found
    rows.data.validate(full=True)  # damaged lengths would kill the process, too
    return cast("Iterable[Mapping[str, Any]]", rows)


def _cause(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unreachable(source: Source, place: Place, error: Exception) -> InputError:
    """Return the error that names all places that were tried, and both repairs."""
    known = find_benchmark(source.path, source.config, source.split)
    if place.tried:
        tried = f"no file {place.tried[0]}"
        if known:
            tried += f" or {place.tried[1]} (or .jsonl, .csv, .txt, .gz)"
        repair = "put that file there"
    else:
        parts = (source.path, source.config, f"{source.split}.json")
        relative = known.file if known else "/".join(part for part in parts if part)
        tried = f"no data root (`data_root` and {ROOT_VARIABLE} are not set)"
        repair = f"set `data_root` to a folder that holds {relative}"
    names = known_names(source.path)
    hint = f" Known parts of {source.path}: {'; '.join(names)}." if names and known is None else ""
    return InputError(
        f"Source {source.name!r} should be readable. Found no local file or folder "
        f"{source.path!r}; {tried}; on the Hugging Face hub: {_cause(error)}. Either check the "
        f"names and connect to the network, or {repair}.{hint}"
    )


def _with_own_ids(rows: list[RawRow]) -> list[RawRow]:
    """Return the rows with the column ``id`` as row id, if all rows have one and all differ."""
    own = [row.values.get("id") for row in rows]
    usable = all(isinstance(value, str | int) and str(value).strip() for value in own)
    if not usable or len({str(value) for value in own}) < len(own):
        return rows
    return [replace(row, row_id=str(value)) for row, value in zip(rows, own, strict=True)]


def _filtered(
    rows: list[RawRow], column: str, wanted: list[str], source: Source, bad: BadRows
) -> list[RawRow]:
    kept: list[RawRow] = []
    seen: dict[str, None] = {}
    for row in rows:
        if column not in row.values:
            bad.add(_missing_column(row, column, "where"))
            continue
        value = str(row.values[column])
        if isinstance(row.values[column], bool) and value.lower() in wanted:
            value = value.lower()  # as JSON writes it
        seen.setdefault(value)
        if value in wanted:
            kept.append(row)
    absent = [value for value in wanted if value not in seen]
    if absent:
        some = ", ".join(repr(value) for value in list(seen)[:5])
        raise InputError(
            f"Source {source.name!r} should have rows whose {column!r} is {absent[0]!r}. Found "
            f"none{suggestion(absent[0], list(seen))}; it has {len(seen)} values such as {some}."
        )
    return kept


def _renamed(rows: list[RawRow], columns: Mapping[str, str], bad: BadRows) -> Iterable[RawRow]:
    """Yield rows with renamed columns; the source's names are kept as well."""
    answerless = columns.get("answer") == ""
    pairs = [(ours, theirs) for ours, theirs in columns.items() if theirs]
    for row in rows:
        missing = next((theirs for _, theirs in pairs if theirs not in row.values), None)
        if missing is not None:
            bad.add(_missing_column(row, missing, "columns"))
            continue
        values = row.values | {ours: row.values[theirs] for ours, theirs in pairs}
        yield replace(row, values=values, answerless=answerless)


def _wanted(rows: Iterable[RawRow], source: Source, bad: BadRows) -> Iterator[RawRow]:
    """Yield rows, except completions that are labelled as bad (data for KTO)."""
    for row in rows:
        label = str(row.values.get("label")).casefold()
        if label == "false" and "completion" in row.values and "label" not in source.where:
            reason = (
                "label false marks its completion as bad. Set `where: {label: ['True']}` of the "
                "source to read the good ones, or ['False'] to read the bad ones."
            )
            bad.add(bad_row(row.location, reason))
        else:
            yield row


def _missing_column(row: RawRow, column: str, parameter: str) -> InputError:
    found = ", ".join(repr(key) for key in row.values)
    guess = suggestion(column, list(row.values))
    reason = f"`{parameter}` names the column {column!r}. Found only {found}{guess}."
    return bad_row(row.location, reason)
