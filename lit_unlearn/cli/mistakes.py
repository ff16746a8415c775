"""Keys and classes of a config that do not exist, found along the constructors' annotations.

Used to explain mistakes only; jsonargparse decides what is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import isabstract
from typing import Any

from lit_unlearn.cli.config import KeyPath
from lit_unlearn.cli.signatures import (
    alternatives,
    bases_of,
    element_types,
    family,
    find_class,
    parameters,
    takes_class_names,
)
from lit_unlearn.errors import did_you_mean

_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
_LISTED = 12
"""So many known names are listed where none is close."""


@dataclass(frozen=True)
class Mistake:
    """The first key or class in a config that does not exist."""

    path: KeyPath
    kind: str
    """``key``, ``class``, or ``entry`` for one that lacks something."""
    name: str
    known: Sequence[str]
    """What could stand there."""
    note: str = ""
    """The repair, where it is not a matter of spelling."""

    def hint(self, prefix: str = "") -> str:
        """How to repair it; ``prefix`` is put before each suggested name."""
        if self.note:
            return self.note
        few = 0 < len(self.known) <= _LISTED
        otherwise = f"known here: {', '.join(self.known)}" if few else "see --help"
        return did_you_mean(self.name, self.known, prefix=prefix, otherwise=otherwise)


def find_mistake(
    values: Mapping[str, Any], roots: Mapping[str, Any], *, strict: bool
) -> Mistake | None:
    """The first key or class path that does not exist.

    Args:
        values: Nested values, as in a config file.
        roots: Every key of the outermost level, with the class or type that it sets.
        strict: As in files: constructor arguments must stand under ``init_args``. Otherwise, as
            on the command line, they may also stand beside ``class_path``.
    """
    return next(_in_keys(values, roots, (), strict), None)


def find_empty_key(values: Mapping[str, Any], roots: Mapping[str, Any]) -> Mistake | None:
    """The first key of files that does not exist and holds an empty mapping.

    The parser passes over those.
    """

    def is_empty(path: KeyPath) -> bool:
        value: Any = values
        for key in path:
            value = value[int(key)] if isinstance(value, list) else value[key]
        return isinstance(value, Mapping) and not value

    mistakes = _in_keys(values, roots, (), strict=True)
    return next((m for m in mistakes if m.kind == "key" and is_empty(m.path)), None)


def _in_keys(
    values: Mapping[str, Any], known: Mapping[str, Any], path: KeyPath, strict: bool
) -> Iterator[Mistake]:
    """Mistakes in a mapping whose keys are the names in ``known``."""
    for key, value in values.items():
        name = str(key).removesuffix("+")
        if name not in known:
            yield Mistake((*path, str(key)), "key", name, list(known))
        else:
            yield from _in_value(value, known[name], (*path, name), strict)


def _in_value(value: object, annotation: object, path: KeyPath, strict: bool) -> Iterator[Mistake]:
    """Mistakes in a value of an annotated parameter."""
    parts = list(alternatives(annotation))
    if isinstance(value, list):
        for index, item in enumerate(value):
            for element in element_types(parts, Sequence)[:1]:
                yield from _in_value(item, element, (*path, str(index)), strict)
    elif isinstance(value, str):
        if parts and all(takes_class_names(part) for part in parts):
            yield from _in_class_name(value, bases_of(parts), path)
    elif isinstance(value, Mapping):
        yield from _in_mapping(value, parts, path, strict)


def _in_mapping(
    value: Mapping[str, Any], parts: list[object], path: KeyPath, strict: bool
) -> Iterator[Mistake]:
    """Mistakes in a mapping: a class with its arguments, named entries, or a data class."""
    bases = bases_of(parts)
    entries = element_types(parts, Mapping)
    if "class_path" in value:
        yield from _in_class(value, bases, path, strict)
    elif entries:
        for name, entry in value.items():
            yield from _in_value(entry, entries[0], (*path, str(name)), strict)
    elif bases and all(isabstract(base) for base in bases):
        yield Mistake(path, "entry", path[-1], (), "class_path is missing")
    elif len(bases) == 1 and "init_args" not in value:
        yield from _in_keys(value, parameters(bases[0]), path, strict)


def _in_class(
    value: Mapping[str, Any], bases: list[type], path: KeyPath, strict: bool
) -> Iterator[Mistake]:
    """Mistakes in ``{class_path: ..., init_args: ...}``."""
    name = str(value["class_path"])
    found = find_class(name, bases)
    if found is None:
        yield from _in_class_name(name, bases, (*path, "class_path") if strict else path)
        return
    known = parameters(found)
    yield from _in_keys(value.get("init_args") or {}, known, (*path, "init_args"), strict)
    beside = {key: item for key, item in value.items() if key not in _OF_A_CLASS}
    if not strict:
        yield from _in_keys(beside, known, path, strict)
        return
    for key in beside:
        note = f"arguments of {name} stand under init_args" if key in known else ""
        yield Mistake((*path, key), "key", key, [*_OF_A_CLASS[:2], *known], note)


def _in_class_name(name: str, bases: list[type], path: KeyPath) -> Iterator[Mistake]:
    """The mistake that no class has this name."""
    if bases and find_class(name, bases) is None:
        known = sorted({cls.__name__ for base in bases for cls in family(base)})
        yield Mistake(path, "class", name.rpartition(".")[2], known)
