"""Reading of ``gradients.jsonl``: the diagnosed steps of a run."""

import json
import math
from pathlib import Path
from typing import Any

from lit_unlearn.errors import InputError

__all__ = ["read_gradients"]

_KEYS = frozenset({"step", "objectives", "norms", "cosines", "weights", "losses"}) | {
    "conflict_rate",
    "update_cosines",
    "groups",
    "group_cosines",
}


def read_gradients(path: Path | str) -> list[dict[str, Any]]:
    """Read the diagnosed steps of a run, in file order; a ``null`` in a list of numbers is NaN.

    Each line is a JSON object with ``step``, ``objectives`` (``M`` names), ``norms`` (``M``),
    ``cosines`` (``M x M``), ``weights`` (``M``), ``conflict_rate`` (0 to 1), ``update_cosines``
    (``M``), ``losses`` (``M``), ``groups`` (``G`` names) and ``group_cosines`` (``G x M x M``).

    Raises:
        InputError: The file is missing, or a line is not such an object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(
            f"{path}: expected the gradient table of a run, found none ({error.strerror}); the "
            "gradient monitor writes it at diagnosed steps"
        ) from error
    return [_gradient(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]


def _gradient(path: Path | str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: expected a JSON object, found {line[:60]!r} ({error.msg}); "
            "an interrupted run may have cut the last line: remove it"
        ) from error
    if not isinstance(row, dict) or not row.keys() >= _KEYS:
        missing = sorted(_KEYS - row.keys()) if isinstance(row, dict) else "all keys"
        raise InputError(
            f"{path}, line {number}: expected an object of the gradient monitor, found one "
            f"without {missing}; give the gradients.jsonl of a run"
        )
    return {key: _null_to_nan(value) for key, value in row.items()}


def _null_to_nan(value: object) -> object:
    if isinstance(value, list):
        return [_null_to_nan(item) for item in value]
    return math.nan if value is None else value
