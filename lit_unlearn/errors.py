"""Errors that a user can repair, and the checks that raise them. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["InputError", "ResultError", "check_field", "check_number", "did_you_mean"]


class InputError(ValueError):
    """Input that cannot be used; the message names it, what was expected and found, and the repair.

    The command line prints the message alone, without a traceback, and exits with `status`.
    """

    status = 2


class ResultError(InputError):
    """Result that must not be used, although the input was right; the message says what is kept."""

    status = 1


def did_you_mean(
    name: str, known: Iterable[str], *, prefix: str = "", most: int = 1, otherwise: str = ""
) -> str:
    """Return ``did you mean X?`` for a name that does not exist.

    Args:
        name: The name that was given. Its case does not count.
        known: All names that exist.
        prefix: Text before each suggestion, such as ``--``.
        most: Largest number of suggestions.
        otherwise: Text that is returned when no known name is similar.
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
    repair: str = "change it",
) -> None:
    """Check that a number lies in its range; None (not set) always passes.

    Args:
        parameter: Name of the parameter in a config.
        value: Value that was set.
        least: Smallest sensible value.
        most: Largest sensible value.
        above: Whether ``least`` itself is too small.
        repair: End of the message, which says what to do.

    Raises:
        InputError: The number is out of range, or NaN.
    """
    if value is None or (least <= value <= most and not (above and value == least)):
        return
    expected = f"{'above' if above else 'at least'} {least}"
    expected += f" and at most {most}" if most < math.inf else ""
    raise InputError(f"Parameter `{parameter}` should be {expected}. Found {value}; {repair}.")


def check_field(
    owner: object,
    name: str,
    least: float,
    most: float = math.inf,
    *,
    above: bool = False,
    repair: str = "change it",
) -> None:
    """Check a number in a field of an object with `check_number`."""
    parameter, value = f"{type(owner).__name__}.{name}", getattr(owner, name)
    check_number(parameter, value, least, most, above=above, repair=repair)
