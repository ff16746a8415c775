"""One line for what the parser rejects: where it stands, what is wrong, and what was meant.

The parser's own messages name neither file nor line, and a mistake inside an objective comes as a
dump of every type that was tried. So when it rejects something, the values are walked here along
the annotations of the constructors, to the first key or class that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from lit_unlearn.cli.config import Config, KeyPath, merge_configs
from lit_unlearn.cli.mistakes import Mistake, find_empty_key, find_mistake
from lit_unlearn.errors import did_you_mean


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
        return _in_file(mistake, config)
    given = dict(_overrides(overrides))
    tree: Mapping[str, Any] = config.values
    for path, value in given.items():
        tree = _with_override(tree, path, value)
    mistake = find_mistake(tree, roots, strict=False)
    if mistake is not None:
        option = "--" + ".".join(mistake.path)
        if mistake.kind == "entry":
            return f"{option}: {mistake.note}{_neighbor_hint(mistake.path, tree, '--')}"
        if mistake.kind == "class":
            return f"{option}: unknown class {mistake.name}; {mistake.hint()}"
        prefix = "".join(part + "." for part in mistake.path[:-1])
        return f"unknown option {option}; {mistake.hint('--' + prefix)}"
    return _shorten(message, config, tree, given)


def overlooked(config: Config, roots: Mapping[str, Any]) -> str | None:
    """One line about an unknown key that the parser passes over, or None; see `explain`."""
    mistake = find_empty_key(config.values, roots)
    return None if mistake is None else _in_file(mistake, config)


def _in_file(mistake: Mistake, config: Config) -> str:
    where = config.origin(mistake.path)
    dotted = ".".join(mistake.path)
    if mistake.kind == "entry":
        return f"{where}: {dotted}: {mistake.note}{_neighbor_hint(mistake.path, config.values)}"
    what = f"{mistake.name} for {dotted}" if mistake.kind == "class" else dotted
    return f"{where}: unknown {mistake.kind} {what}; {mistake.hint()}"


def _neighbor_hint(path: KeyPath, tree: Mapping[str, Any], prefix: str = "") -> str:
    """``; did you mean ...?`` where an entry beside the last key of a path has a similar name."""
    beside: Any = tree
    for key in path[:-1]:
        beside = beside[int(key)] if isinstance(beside, list) else beside.get(key, {})
    names = [str(name) for name in beside if name != path[-1]]
    hint = did_you_mean(path[-1], names, prefix=prefix + "".join(f"{key}." for key in path[:-1]))
    return f"; {hint}" if hint else ""


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
        yield path, _value(value) if value[:1] in ("{", "[") else value


def _value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # what is wrong with it is in the parser's message
        return text


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
    file = re.search(r"unrecognized arguments: (\S+\.ya?ml)\b", text)
    if file:
        return f"{text}; did you mean --config {file[1]}?"
    keys = re.findall(r'Parser key "([^"]+)"', message)
    if not keys:
        return text
    lacking = re.search(r"the following arguments are required: (.*)", text)
    if lacking:
        path = _lacks(tree, tuple(keys[0].split(".")), lacking[1].split(", "))
        where = config.origin(path) if _is_in(config.values, path) else None
        named = f"{where}: {'.'.join(path)}" if where else f"--{'.'.join(path)}"
        return f"{named}: {text}{_neighbor_hint(path, tree, '' if where else '--')}"
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


def _lacks(tree: Mapping[str, Any], path: KeyPath, names: Sequence[str]) -> KeyPath:
    """The entry at or below ``path`` that lacks one of the names; ``path`` if none is found."""
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        for name, entry in value.items():
            given = entry.get("init_args", entry) if isinstance(entry, Mapping) else names
            if any(wanted not in given for wanted in names):
                return (*path, str(name))
    return path


def _is_in(values: object, path: KeyPath) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def _relevant(message: str) -> str:
    """A parser's message on one line, without its keys, and without what always stands there."""
    message = re.sub(r"\. Got value: Namespace\(.*", "", message)
    given = re.search(r"Given value: (.*)", message)
    text = message.split("Subclass types expect")[0]
    frames = (
        r'Parser key "[^"]+":',
        r"Problem with given class_path '[^']+':",
        r"Type typing\.Callable\S* .* expects a function or a callable class:",
    )
    for frame in frames:
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
    starts: tuple[str, ...] = ("Does not validate", "Subtypes:", "Errors:", "Given value")
    starts += ("Expected a path but", "Expected a dot import path")
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
