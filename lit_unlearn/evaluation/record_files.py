"""The record of a subject on disk: ``metrics.json``, ``rows.jsonl`` and ``TOFU_EVAL.json``."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.log_export import exported_log, is_exported
from lit_unlearn.evaluation.probes import BlockMap, Figure, Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text

__all__ = ["EVALUATION_SCHEMA", "METRICS", "ROWS"]
__all__ += ["evaluation_files", "is_evaluation", "model_of", "read_evaluation", "write_evaluation"]

T = TypeVar("T")

METRICS = "metrics.json"
ROWS = "rows.jsonl"
LOG = "TOFU_EVAL.json"
EVALUATION_SCHEMA = 1
"""Version of both files; increased when the name or meaning of a key changes."""
_KINDS: Mapping[type, Mapping[str, Any]] = {
    cls: get_type_hints(cls) for cls in (Row, Figure, BlockMap, SuiteRecord, EvaluationRecord)
}
"""Types of the fields of what is read."""


def evaluation_files(folder: Path) -> list[Path]:
    """Return the files that an evaluation writes: those replaced, and a new one in its store."""
    return [folder / METRICS, folder / ROWS, folder / LOG, folder / "store" / "new"]


def write_evaluation(folder: Path, record: EvaluationRecord) -> None:
    """Write both files, ``metrics.json`` last: if it exists, the evaluation is complete.

    Keys of ``metrics.json``: ``schema_version``, ``model``, ``fingerprint``, ``settings``,
    ``versions``, ``balance`` (a list of figures) and ``suites``, a list of ``suite``, ``settings``,
    ``seconds``, ``cpu_seconds``, ``rows`` (their number), ``figures`` with the fields of `Figure`
    and, if there are any, ``maps`` with the fields of `BlockMap`. ``rows.jsonl`` has one line per
    row: ``suite`` and the fields of `Row`. Numbers that are not finite are ``null``. The first
    suite tofu is also written in open-unlearning's layout (`exported_log`).
    """
    suites = record.suites.values()
    rows = [{"suite": suite.suite, **asdict(row)} for suite in suites for row in suite.rows]
    write_text(folder / ROWS, "".join(json_text(row) + "\n" for row in rows))
    for suite in [suite for suite in suites if is_exported(suite)][:1]:
        write_text(folder / LOG, json_text(exported_log(suite), indent=1) + "\n")
    facts = {name: value for name, value in vars(record).items() if name != "suites"}
    facts["balance"] = [asdict(figure) for figure in record.balance]
    entries = [_entry(suite) for suite in suites]
    content = {"schema_version": EVALUATION_SCHEMA, **facts, "suites": entries}
    write_text(folder / METRICS, json_text(content, indent=2) + "\n")


def _entry(suite: SuiteRecord) -> dict[str, Any]:
    counted = {"rows": len(suite.rows), "figures": list(map(asdict, suite.figures))}
    kept = {name: value for name, value in vars(suite).items() if name != "maps"} | counted
    maps = {title: asdict(each) for title, each in suite.maps.items()}
    return kept | ({"maps": maps} if maps else {})


def is_evaluation(given: object) -> bool:
    """Return whether a value is the path of a folder that `write_evaluation` wrote."""
    return isinstance(given, str | Path) and (local_path(given) / METRICS).is_file()


def model_of(folder: Path) -> str | None:
    """Return the model of an evaluation; None if its file is missing or damaged."""
    try:
        return str(json.loads((folder / METRICS).read_text("utf-8"))["model"])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def read_evaluation(folder: Path) -> EvaluationRecord:
    """Read the files that `write_evaluation` wrote.

    Raises:
        InputError: A file is missing, damaged or of another schema version, or the two files do
            not belong together; the message names the file.
    """
    content, rows = _read_metrics(folder), _read_rows(folder)
    try:
        said = Counter({entry["suite"]: entry["rows"] for entry in content["suites"]})
        for name in {**said, **rows}:
            if said[name] != len(rows.get(name, ())):
                raise InputError(
                    f"{folder / ROWS}: expected {said[name]} rows of suite {name}, as {METRICS} "
                    f"says, found {len(rows.get(name, ()))}; evaluate again"
                )
        suites = {}
        for entry in content["suites"]:
            figures = [_figure(figure) for figure in entry["figures"]]
            maps = {title: _map(each) for title, each in entry.get("maps", {}).items()}
            own = {"rows": rows.get(entry["suite"], []), "figures": figures, "maps": maps}
            suites[entry["suite"]] = _made(SuiteRecord, {**entry, **own})
        balance = [_figure(entry) for entry in content["balance"]]
        names = ("model", "fingerprint", "settings", "versions")
        facts = {name: content[name] for name in names}
        return _made(EvaluationRecord, {**facts, "suites": suites, "balance": balance})
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / METRICS}: expected the keys and values that `lit-unlearn evaluate` "
            f"writes, found others ({type(error).__name__}: {error}); evaluate again"
        ) from None


def _read_metrics(folder: Path) -> dict[str, Any]:
    file = folder / METRICS
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError:
        raise InputError(
            f"{folder}: expected the folder of an evaluation, found no {METRICS} in it; "
            "`lit-unlearn evaluate MODEL --output FOLDER` writes it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: expected JSON, found: {error}; evaluate again") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != EVALUATION_SCHEMA:
        raise InputError(
            f"{file}: expected schema_version {EVALUATION_SCHEMA}, found {version}; evaluate again "
            "with this version of lit-unlearn (stored outcomes are used again)"
        )
    return dict(content)


def _read_rows(folder: Path) -> dict[str, list[Row]]:
    file = folder / ROWS
    try:
        lines = file.read_text("utf-8", errors="replace").split("\n")
    except OSError:
        raise InputError(
            f"{folder}: expected {ROWS} beside {METRICS}, found none; evaluate again"
        ) from None
    found: dict[str, list[Row]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line) if line else None
            if content is not None:
                scores = {name: _number(value) for name, value in content.pop("scores").items()}
                suite = found.setdefault(content.pop("suite"), [])
                suite.append(_made(Row, {**content, "scores": scores}))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{file}, line {number}: expected a row of an evaluation, found {line[:60]!r} "
                f"({type(error).__name__}: {error}); evaluate again"
            ) from None
    return found


def _figure(entry: Mapping[str, Any]) -> Figure:
    return _made(Figure, {**entry, "value": _number(entry["value"])})


def _map(entry: Mapping[str, Any]) -> BlockMap:
    values = [list(map(_number, row)) for row in entry["values"]]
    return _made(BlockMap, {**entry, "values": values})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _made(cls: type[T], values: Mapping[str, Any]) -> T:
    """Create an object of a dataclass; a value of another type than its field's is an error."""
    made = cls(**values)
    for name, value in values.items():
        if not _fits(value, _KINDS[cls][name]):
            raise TypeError(f"{name} is {value!r:.60}")
    return made


def _fits(value: object, kind: Any) -> bool:
    """Return whether a value has the type of a field; an integer is also a float."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is None:
        return kind is Any or isinstance(value, int | float if kind is float else kind)
    if origin is Literal:
        return value in parts
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(each, parts[1]) for each in value.values())
    if origin is Sequence:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    return any(_fits(value, each) for each in parts)
