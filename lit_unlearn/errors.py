"""Errors that a user can repair, and the checks that raise them. Imports nothing heavy."""

import math
import re
from collections.abc import Iterable
from dataclasses import field, fields
from typing import Any, TypeVar

__all__ = ["ChangedError", "InputError", "ResultError"]
__all__ += ["check_fields", "check_number", "check_pattern", "did_you_mean", "ranged"]

V = TypeVar("V")

_RANGE, _REPAIR = "range", "change it"


class InputError(ValueError):
    """Input that cannot be used; the message names it, what was expected and found, and the repair.

    The command line prints the message alone, without a traceback, and exits with `status`.
    """

    status = 2


class ChangedError(InputError):
    """Evidence that was changed after it was written."""

    status = 3


class ResultError(InputError):
    """Result that must not be used, although the input was right; the message says what is kept."""

    status = 1


def did_you_mean(
    name: str, known: Iterable[str], *, prefix: str = "", most: int = 1, otherwise: str = ""
) -> str:
    """Return ``did you mean X?`` for a name, in any case, that is not among the known ones.

    There are at most ``most`` suggestions, each behind ``prefix``, such as ``--``. Without a
    similar name the text is ``otherwise``.
    """
    from difflib import get_close_matches

    names = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), names, n=most)
    suggestions = " or ".join(prefix + names[each] for each in close)
    return f"did you mean {suggestions}?" if close else otherwise


def check_number(
    parameter: str,
    value: float | None,
    least: float,
    most: float = math.inf,
    *,
    above: bool = False,
    repair: str = _REPAIR,
) -> None:
    """Check that a number lies in its range; None (not set) always passes.

    The number must be at least ``least`` (or above it) and at most ``most``. ``repair`` ends the
    message. NaN is out of every range.
    """
    if value is None or (least <= value <= most and not (above and value == least)):
        return
    expected = f"{'above' if above else 'at least'} {least}"
    expected += f" and at most {most}" if most < math.inf else ""
    raise InputError(f"Parameter `{parameter}` should be {expected}. Found {value}; {repair}.")


def check_pattern(parameter: str, pattern: str) -> None:
    """Refuse the text of a parameter that is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"Parameter `{parameter}` should be a regular expression. Found {pattern!r}: {error}."
        ) from error


def ranged(
    default: V, least: float, most: float = math.inf, *, above: bool = False, repair: str = _REPAIR
) -> V:
    """Return a dataclass field with the range that `check_fields` checks; see `check_number`."""
    made: Any = field(default=default, metadata={_RANGE: (least, most, above, repair)})
    return made  # type: ignore[no-any-return]


def check_fields(owner: Any, place: str | None = None) -> None:
    """Check the numbers in all `ranged` fields of a dataclass object.

    ``place`` is the text before the field's name in messages; None for the class and a dot.
    """
    for each in fields(owner):
        if _RANGE in each.metadata:
            least, most, above, repair = each.metadata[_RANGE]
            parameter = (f"{type(owner).__name__}." if place is None else place) + each.name
            value = getattr(owner, each.name)
            check_number(parameter, value, least, most, above=above, repair=repair)
