"""Say in one line where a rejected setting stands, what is wrong with it, and how to repair it.

The parser names neither file nor line, and a mistake inside an objective comes with a dump of every
type that was tried. But what it names (the outer key, the class, and the name or value that it
rejects) is enough to find the setting in the files or on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, get_args

from jsonargparse import ArgumentParser

from lit_unlearn.cli.blame import Setting, file_settings, settings_of
from lit_unlearn.cli.classes import family
from lit_unlearn.cli.config import Config, KeyPath
from lit_unlearn.errors import InputError, did_you_mean

__all__ = ["check_keys", "explain", "unknown_strategy"]

_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
_LISTED = 12
"""Largest number of known names that are listed where none is similar."""


def check_keys(config: Config, parser: ArgumentParser) -> None:
    """Refuse keys of config files that the parser overlooks or says little about."""
    known = _types(parser)
    groups = {""} | {name.rpartition(".")[0] for name in known}
    for path, _, place, owner in file_settings(config):
        above, name = ".".join(path[:-1]), ".".join(path).removesuffix("+")
        if above in groups and name not in known and name not in groups:
            raise InputError(f"{place}: unknown key; {_repair(name, known)}")
        if owner and "init_args" not in path[-2:] and path[-1] not in _OF_A_CLASS:
            raise InputError(f"{place}: unknown key; arguments of {owner} stand under init_args")


def explain(message: str, parser: ArgumentParser, config: Config, args: Sequence[str]) -> str:
    """Return one line that says why the parser rejected something.

    Args:
        message: The parser's own words.
        parser: The parser.
        config: The merged config files.
        args: The other arguments of the command line.
    """
    return _Rejection(message, parser, settings_of(config, args)).explained()


class _Rejection:
    """A message of the parser, and the settings among which the wrong one is."""

    def __init__(self, message: str, parser: ArgumentParser, settings: list[Setting]) -> None:
        self.message, self.parser = re.sub(r"\b(fit|test)\.", "", message), parser
        keys = re.findall(r'Parser key "([^"]+)"', self.message)
        self.outer: KeyPath = tuple(keys[0].split(".")) if keys else ()
        self.last = ".".join(keys).rpartition(".")[2]
        self.settings = [s for s in settings if s.path[: len(self.outer)] == self.outer]

    def explained(self) -> str:
        """Return the line for the first kind of mistake that fits."""
        expected = self._expected()
        named = (
            r"(?:dot import path string: |class_path ')([^\s']+)(?:$|':\s+(?:No mod|cannot|mod))"
        )
        kinds: dict[str, Callable[[re.Match[str]], str]] = {
            r"unrecognized arguments: --([^=\s]+)": self._unknown_option,
            r"Option '([^']+)' is not accepted": self._unknown_argument,
            r"the following arguments are required: (.+)": self._incomplete,
            r"class, but \S+ is abstract": self._incomplete,
            "^" if expected else "never^": lambda _: self._wrong_value(expected),
            named: self._unknown_class,
        }
        for pattern, explained in kinds.items():
            if found := re.search(pattern, self.message, re.MULTILINE):
                return explained(found)
        text = " ".join(self.message.split())
        file = re.search(r"unrecognized arguments: (\S+\.ya?ml)\b", text)
        return f"{text}; did you mean --config {file[1]}?" if file else text

    def _unknown_option(self, found: re.Match[str]) -> str:
        known = _types(self.parser)
        option, repair = _first_unknown(found[1], known), _repair(found[1], known, "--")
        return f"--{option}: unknown option; {repair}"

    def _unknown_argument(self, found: re.Match[str]) -> str:
        before = self.message[: found.start()]
        parser, _, owner = self._inside(before if "class_path" in before else self.message)
        name = tuple(found[1].split("."))
        place = self._place(
            lambda s: s.owner == owner and s.path[-len(name) :] == name,
            lambda s: s.path[-len(name) :] == name,
        )
        return f"{place}: unknown name; {_repair(found[1], _types(parser))}"

    def _unknown_class(self, found: re.Match[str]) -> str:
        _, annotation, _ = self._inside(self.message[: found.start()])
        known = {c.__name__ for base in _classes(annotation) for c in family(base)}
        repair = did_you_mean(found[1].rpartition(".")[2], known, otherwise="see --help")
        place = self._place(lambda s: s.value == found[1])
        return f"{place}: unknown class {found[1]}; {repair}"

    def _incomplete(self, found: re.Match[str]) -> str:
        """Explain an entry that lacks arguments, or its `class_path`."""
        wanted = found[1].split(", ") if found.re.groups else ["class_path"]
        text = found[0] if found.re.groups else "class_path is missing"
        if not self.outer:
            return text
        depth = len(self.outer) + 1
        names = list(
            dict.fromkeys(s.path[depth - 1] for s in self.settings if len(s.path) >= depth)
        )
        for name in names:
            own = [s for s in self.settings if s.path[depth - 1 : depth] == (name,)]
            given = {s.path[-1] for s in own}
            given |= {
                "class_path" for s in own if len(s.path) == depth and isinstance(s.value, str)
            }
            if not given.issuperset(wanted):
                place = min(own, key=lambda s: len(s.path)).place
                hint = did_you_mean(name, [other for other in names if other != name])
                return f"{place}: {text}{'; ' * bool(hint)}{hint}"
        return f"{'.'.join(self.outer)}: {text}"

    def _expected(self) -> list[str]:
        """Return the types that were tried, without those that are tried for every value."""
        found = re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", self.message, re.MULTILINE)
        noise = ("path but", "dot import path", "<class 'NoneType'>", "instantiatable class")
        types = [each for each in found if not each.startswith(noise)]
        types = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", each) for each in types]
        types = [re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", each) for each in types]
        return list(dict.fromkeys(types))

    def _wrong_value(self, expected: list[str]) -> str:
        found = re.search(r"(?:Given|Got) value: (.*?)(?:\. Got.*)?$", self.message, re.MULTILINE)
        value = found[1] if found else ""
        if value.startswith("Namespace("):  # options deeper than the parser's type
            return self._too_deep(expected)
        place = self._place(
            lambda s: s.path[-1] == self.last and str(s.value) == value,
            lambda s: s.path[-1] == self.last,
            lambda s: str(s.value) == value,
        )
        return f"{place}: expected {'; or '.join(expected)}, found {value}"

    def _too_deep(self, expected: list[str]) -> str:
        """Explain an option that sets a part of what has no parts."""
        place = self._place(lambda s: len(s.path) > len(self.outer) and s.place.startswith("--"))
        return (
            f"{place}: {self.last} should be {'; or '.join(expected)}; give it as a whole, or its "
            "elements in a config file, which the command line can change by their number"
        )

    def _place(self, *tests: Callable[[Setting], bool]) -> str:
        """Return the place of the first setting that passes a test; an earlier test wins."""
        places = (setting.place for test in tests for setting in self.settings if test(setting))
        return next(places, f"--{'.'.join(self.outer)}")

    def _inside(self, message: str) -> tuple[ArgumentParser, Any, str]:
        """Follow the keys and classes that a part of the message names.

        Returns:
            The parser of the last class, the type of the last key, and the name of the class.
        """
        parser, annotation, owner = self.parser, None, ""
        for key, path in re.findall(r"Parser key \"([^\"]+)\"|class_path[ =]'([^']+)'", message):
            if key:
                annotation = _types(parser).get(key, annotation)
            else:
                with suppress(ImportError, AttributeError, TypeError, ValueError):
                    parser, owner = _class_parser(path), path.rpartition(".")[2]
        return parser, annotation, owner


def _types(parser: ArgumentParser) -> dict[str, Any]:
    """Return all keys of a parser with their types; None for options of argparse itself."""
    found = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    return {name: kind for name, kind in found.items() if name.split(".")[-1] != "help"}


def _class_parser(path: str) -> ArgumentParser:
    """Return a parser of the arguments of a class or function."""
    module, _, name = path.rpartition(".")
    made_by, parser = getattr(import_module(module), name), ArgumentParser(exit_on_error=False)
    is_class = isinstance(made_by, type)
    add = parser.add_class_arguments if is_class else parser.add_function_arguments
    add(made_by, fail_untyped=False)
    return parser


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and annotation.__module__ != "builtins":
        yield annotation
    for part in get_args(annotation):
        yield from _classes(part)


def _first_unknown(name: str, known: Iterable[str]) -> str:
    """Return a dotted name up to its first part that does not exist."""
    parts = name.split(".")
    starts = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return next((s for s in starts if not any(f"{k}.".startswith(f"{s}.") for k in known)), name)


def _repair(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return what was meant by a dotted name that does not exist."""
    above, dot, wrong = _first_unknown(name, known).rpartition(".")
    start = above + dot
    names = {other.removeprefix(start).split(".")[0] for other in known if other.startswith(start)}
    listed = (
        f"known here: {', '.join(sorted(names))}" if 0 < len(names) <= _LISTED else "see --help"
    )
    prefix = prefix + start if prefix else ""
    return did_you_mean(wrong.removesuffix("+"), names, prefix=prefix, otherwise=listed)


def unknown_strategy(config: Mapping[str, Any]) -> str | None:
    """Return the message about a strategy that does not exist, or None if it does."""
    from lightning.pytorch.strategies import StrategyRegistry  # imports torch

    name = config.get("strategy")
    known = ["auto", *StrategyRegistry.available_strategies()]
    if not isinstance(name, str) or name in known:
        return None
    hint = did_you_mean(name, known, otherwise=f"known: {', '.join(known)}")
    return f"--trainer.strategy: unknown strategy {name}; {hint}"
