"""One line for what the parser rejects: where it stands, what is wrong, and what was meant.

The parser's own messages name neither file nor line, and a mistake inside an objective comes as a
dump of every type that was tried. So when it rejects something, the values are walked here along
the annotations of the constructors, to the first key or class that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

from lit_unlearn.cli_config import Config, KeyPath, merge_configs
from lit_unlearn.cli_types import (
    alternatives,
    bases_of,
    element_types,
    family,
    find_class,
    parameters,
    takes_class_names,
)

_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
_LISTED = 12
"""So many known names are listed where none is close."""


@dataclass(frozen=True)
class Mistake:
    """The first key or class in a config that does not exist."""

    path: KeyPath
    kind: str
    """``key`` or ``class``."""
    name: str
    known: Sequence[str]
    """What could stand there."""
    note: str = ""
    """The repair, where it is not a matter of spelling."""

    def hint(self, prefix: str = "") -> str:
        """How to repair it; ``prefix`` is put before each suggested name."""
        if self.note:
            return self.note
        for name in get_close_matches(self.name, self.known, n=1):
            return f"did you mean {prefix}{name}?"
        if 0 < len(self.known) <= _LISTED:
            return f"known here: {', '.join(self.known)}"
        return "see --help"


def explain(
    message: str, config: Config, overrides: Sequence[str], roots: Mapping[str, Any]
) -> str:
    """Say in one line why the parser rejected something.

    Args:
        message: The parser's own words.
        config: The merged config files.
        overrides: The other arguments of the command line.
        roots: Every key of the outermost level, with the class or type that it sets.
    """
    mistake = find_mistake(config.values, roots, strict=True)
    if mistake is not None:
        where = config.origin(mistake.path)
        dotted = ".".join(mistake.path)
        what = f"{mistake.name} for {dotted}" if mistake.kind == "class" else dotted
        return f"{where}: unknown {mistake.kind} {what}; {mistake.hint()}"
    given = dict(_overrides(overrides))
    tree: Mapping[str, Any] = config.values
    for path, value in given.items():
        tree = _with_override(tree, path, value)
    mistake = find_mistake(tree, roots, strict=False)
    if mistake is not None:
        option = "--" + ".".join(mistake.path)
        if mistake.kind == "class":
            return f"{option}: unknown class {mistake.name}; {mistake.hint()}"
        prefix = "".join(part + "." for part in mistake.path[:-1])
        return f"unknown option {option}; {mistake.hint('--' + prefix)}"
    return _shorten(message, config, tree, given)


# --------------------------------------------------------------------- walking along annotations


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


# ------------------------------------------------------------------------------- the command line


def _overrides(args: Sequence[str]) -> Iterator[tuple[KeyPath, Any]]:
    """Path and value of each ``--a.b.c=value`` and ``--a.b.c value``."""
    for index, arg in enumerate(args):
        if not arg.startswith("--"):
            continue
        name, equals, value = arg[2:].partition("=")
        path = tuple(name.split("."))
        if path[-1] in ("help", "print_config"):
            continue
        following = args[index + 1] if index + 1 < len(args) else ""
        value = value if equals else following
        yield path, yaml.safe_load(value) if value[:1] in ("{", "[") else value


def _with_override(tree: Mapping[str, Any], path: KeyPath, value: object) -> dict[str, Any]:
    """The tree with one value of the command line in it."""
    key, rest = path[0], path[1:]
    old = tree.get(key.removesuffix("+"))
    if rest and isinstance(old, list):  # `callbacks+=X`, then `callbacks.option`: the last one
        last = old[-1] if old else {}
        return {**tree, key: [*old[:-1], _with_override(_as_class(last), rest, value)]}
    if rest:
        return {**tree, key: _with_override(_as_class(old), rest, value)}
    if key.endswith("+"):
        items = old if isinstance(old, list) else []
        return {**tree, key[:-1]: [*items, value]}
    if isinstance(value, Mapping) and isinstance(old, Mapping):
        return {**tree, key: merge_configs(old, value)}
    return {**tree, key: value}


def _as_class(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return {"class_path": value} if isinstance(value, str) else {}


# ----------------------------------------------------------------------------- the parser's words


def _shorten(
    message: str, config: Config, tree: Mapping[str, Any], given: Mapping[KeyPath, Any]
) -> str:
    """The relevant part of a parser's message, with the file and line of the value."""
    text = _relevant(message)
    keys = re.findall(r'Parser key "([^"]+)"', message)
    if not keys:
        return text
    outer, inner = tuple(keys[0].split(".")), tuple(".".join(keys).split("."))
    found = text.rpartition(", found ")[2]
    places = [
        path
        for path, value in _leaves(tree)
        if path[: len(outer)] == outer and path[-1] == inner[-1] and str(value) == found
    ]
    path = (places or [inner])[0]
    overridden = _without_init_args(path) in map(_without_init_args, given)
    where = None if overridden else config.origin(path)
    return f"{where}: {'.'.join(path)}: {text}" if where else f"--{'.'.join(path)}: {text}"


def _relevant(message: str) -> str:
    """A parser's message on one line, without its keys, and without what always stands there."""
    given = re.search(r"Given value: (.*)", message)
    text = message.split("Subclass types expect")[0]
    for frame in (r'Parser key "[^"]+":', r"Problem with given class_path '[^']+':"):
        text = re.sub(frame, "", text)
    text = re.sub(r"\b(fit|validate|test)\.", "", text)
    lines = (line.strip(" -") for line in text.splitlines())
    text = "; or ".join(dict.fromkeys(line for line in lines if line and not _is_noise(line)))
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", text)
    text = text.replace("Expected a ", "expected ").replace(". Got value: ", ", found ")
    text += f", found {given[1]}" if given else ""
    return text[:1].lower() + text[1:]


def _is_noise(line: str) -> bool:
    starts = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but")
    return line.startswith(starts) or line == "Expected a <class 'NoneType'>"


def _without_init_args(path: KeyPath) -> KeyPath:
    """The short form of a path, which the command line accepts as well."""
    return tuple(key for key in path if key != "init_args")


def _leaves(values: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _leaves(value, (*path, str(index)))
    else:
        yield path, values
