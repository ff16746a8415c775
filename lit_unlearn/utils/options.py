"""Splitting of a command line into options, without a list of those that exist."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lit_unlearn.errors import InputError

__all__ = ["Option", "split_options", "take_options"]


class Option(NamedTuple):
    """One option of a command line, or a positional argument."""

    name: str
    """Name with its dashes; empty for a positional argument."""
    value: str | None
    """Text after the equals sign, or the next argument if that is not an option."""
    arguments: tuple[str, ...]
    """The option as it was written."""


def split_options(args: Sequence[str]) -> Iterator[Option]:
    """Yield the options in their order; ``--a=1`` and ``--a 1`` are the same."""
    rest = list(args)
    while rest:
        first = rest.pop(0)
        name, equals, value = first.partition("=")
        if not name.startswith("-"):
            yield Option("", first, (first,))
        elif equals:
            yield Option(name, value, (first,))
        elif rest and not re.match(r"-[-a-zA-Z]", rest[0]):
            value = rest.pop(0)
            yield Option(name, value, (first, value))
        else:
            yield Option(name, None, (first,))


def take_options(
    args: Sequence[str], wanted: Callable[[str], bool]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Separate the wanted options of a command line from all other arguments.

    `wanted` is called with the name of an option, including its dashes. The first result has name
    and value of each wanted option.

    Raises:
        InputError: A wanted option has no value.
    """
    taken: list[tuple[str, str]] = []
    others: list[str] = []
    for option in split_options(args):
        if not option.name or not wanted(option.name):
            others += option.arguments
        elif option.value:
            taken.append((option.name, option.value))
        else:
            raise InputError(f"{option.name}: expected a value after it, found none")
    return taken, others
