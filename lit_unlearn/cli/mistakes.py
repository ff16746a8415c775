"""Explanation of a rejected setting in one line: its place, the mistake and the repair.

The parser names neither file nor line, and for a mistake inside an objective it lists every type
that it tried. It does name the outer key, the class, and the rejected name or value, which is
enough to find the setting in the files or on the command line.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from jsonargparse import ArgumentParser

from lit_unlearn.cli.blame import Setting, file_settings, settings_of
from lit_unlearn.cli.classes import family
from lit_unlearn.cli.config import OF_A_CLASS, Config, KeyPath
from lit_unlearn.data.readers import file_type
from lit_unlearn.errors import InputError, did_you_mean

__all__ = ["check_keys", "explain", "unknown_strategy"]

_LISTED = 12
"""Largest number of known names that are listed if none is similar."""
_CLASS = r"(?:dot import path string: |class_path ')([^\s']+)(?:$|':\s+(?:No mod|cannot|mod))"
_LIKE_A_CLASS = _CLASS.replace(r"[^\s']+", r"(?:\w+\.)*[A-Z]\w*")


def check_keys(config: Config, parser: ArgumentParser) -> None:
    """Refuse unknown keys of config files that the parser ignores or explains badly."""
    known = _types(parser)
    groups = {""} | {name.rpartition(".")[0] for name in known}
    for path, value, place, owner in file_settings(config):
        above, name = ".".join(path[:-1]), ".".join(path).removesuffix("+")
        if above in groups and name not in known and name not in groups:
            raise InputError(f"{place}: unknown key; {_repair(name, known)}")
        if name in groups and not isinstance(value, Mapping | NoneType) and not _is_file(value):
            raise InputError(f"{place}: {_keys_expected(name, value, known)}")
        if owner and "init_args" not in path[-2:] and path[-1] not in OF_A_CLASS:
            raise InputError(f"{place}: unknown key; arguments of {owner} belong under init_args")


def explain(message: str, parser: ArgumentParser, config: Config, args: Sequence[str]) -> str:
    """Return one line for a message of the parser; `args` are the options besides config files."""
    message = re.sub(r"\b(fit|test)\.", "", message)
    rejected = _Rejection(message, parser, settings_of(config, args))
    kinds: dict[str, Callable[[re.Match[str]], str]] = {
        r"unrecognized arguments: --([^=\s]+)": rejected.unknown_option,
        r"Option '([^']+)' is not accepted": rejected.unknown_argument,
        r"the following arguments are required: (.+)": rejected.missing,
        r"class, but \S+ is abstract()": rejected.missing,
        r"has no attribute '\w+'\. Got value: ([\w.]+)$": rejected.unknown_class,
        r"- (.+ \((\S+)\.py, line \d+\))$": rejected.broken_module,
        r"Unable to load config": rejected.no_keys,
        _LIKE_A_CLASS: rejected.unknown_class,
        r"Not a valid subclass of (\w+)\. Got value: ([^{N\n].*)$": rejected.no_class,
        r"Expected an? ": rejected.wrong_value,
        _CLASS: rejected.unknown_class,
        r"(?:sub-config file|a path but|import path format:) ([^\s:]+)": rejected.unknown_class,
        r'Invalid option "([^"]*)" for --print_config': (
            lambda found: f"--print_config: expected =skip_default or no value, found {found[1]}"
        ),
        r"unrecognized arguments: (skip_\w+)": (
            lambda found: f"{found[0]}; did you mean --print_config={found[1]}?"
        ),
        r"unrecognized arguments: (\S+).*": rejected.unknown_word,
    }
    matches = ((re.search(kind, message, re.MULTILINE), text) for kind, text in kinds.items())
    texts = (text(found) for found, text in matches if found)
    return next(filter(None, texts), " ".join(message.split()))


class _Rejection:
    """A message of the parser, and the settings that may be wrong."""

    def __init__(self, message: str, parser: ArgumentParser, settings: list[Setting]) -> None:
        self.message, self.parser = message, parser
        keys = re.findall(r'Parser key "([^"]+)"', message)
        self.outer: KeyPath = tuple(keys[0].split(".")) if keys else ()
        self.last = ".".join(keys).rpartition(".")[2]
        self.settings = [s for s in settings if s.path[: len(self.outer)] == self.outer]

    def unknown_option(self, found: re.Match[str]) -> str:
        known, positional = _types(self.parser), _positional(self.parser)
        options = [name for name in known if name not in positional]
        (near,) = get_close_matches(found[1].lower(), known, 1) or [""]
        repair = _repair(found[1], options, "--")
        if near in positional:
            places = " ".join(positional).upper()
            repair = f"give only the value of `{near}`: {self.parser.prog} {places}"
        return f"--{_first_unknown(found[1], options)}: unknown option; {repair}"

    def unknown_word(self, found: re.Match[str]) -> str:
        is_config = found[1].endswith((".yaml", ".yml")) and "config" in _types(self.parser)
        repair = f"did you mean --config {found[1]}?" if is_config else "see --help"
        return f"{found[0]}; {repair}"

    def unknown_argument(self, found: re.Match[str]) -> str:
        before = self.message[: found.start()]
        if found[1] == self.last and "Expected a" in before:  # another class does not have it
            return self.wrong_value(found)
        parser, _, owner = self._inside(before if "class_path" in before else self.message)
        own = tuple(found[1].split("."))
        named = [s for s in self.settings if s.path[-len(own) :] == own]
        whole = [s for s in self.settings if f"{own[-1]}:" in str(s.value)]
        place = self._place([s for s in named if s.owner == owner], named, whole)
        return f"{place}: unknown name; {_repair(found[1], _types(parser))}"

    def broken_module(self, found: re.Match[str]) -> str:
        return f"{self._place([s for s in self.settings if found[2] in str(s.value)])}: {found[1]}"

    def unknown_class(self, found: re.Match[str]) -> str:
        """Explain a name that is not a class: a package is missing, or keys are expected."""
        name, same = found[1], [s for s in self.settings if s.value == found[1]]
        place = self._place(same, [s for s in self.settings if name in str(s.value)])
        lacks = re.search(r"No module named '([^']+)'", self.message)
        if "/" in name or file_type(name):
            return f"{place}: expected keys and values such as {{path: {name}}}, found {name}"
        if lacks and not name.startswith(lacks[1]):
            return f"{place}: {name} needs a package that is missing, {lacks[1]}"
        _, annotation, _ = self._inside(self.message[: found.start()])
        known = {c.__name__ for base in _classes(annotation) for c in family(base)}
        repair = did_you_mean(name.rpartition(".")[2], known, otherwise="see --help")
        return f"{place}: unknown class {name}; {repair}"

    def no_keys(self, _: re.Match[str]) -> str:
        """Explain a value in place of keys, which the parser takes for the name of a file."""
        known, name = _types(self.parser), ".".join(self.outer)
        given = [s for s in self.settings if s.path == self.outer]
        if not given or not any(other.startswith(f"{name}.") for other in known):
            return ""
        if _is_file(given[0].value):
            file = Path(str(given[0].value))
            return "" if file.exists() else f"{given[0].place}: no such file {file}"
        return f"{given[0].place}: {_keys_expected(name, given[0].value, known)}"

    def no_class(self, found: re.Match[str]) -> str:
        """Explain a number or list in place of a class."""
        place = self._place([s for s in self.settings if str(s.value) == found[2]])
        return f"{place}: expected {{class_path: NAME}} of a kind of {found[1]}, found {found[2]}"

    def missing(self, found: re.Match[str]) -> str:
        """Explain an entry that lacks arguments, or its `class_path`."""
        wanted, text = (
            (found[1].split(", "), found[0])
            if found[1]
            else (["class_path"], "class_path is missing")
        )
        depth = len(self.outer)
        inner = [s for s in self.settings if self.outer and len(s.path) > depth]
        names = list(dict.fromkeys(s.path[depth] for s in inner))
        for name in names:
            own = [s for s in inner if s.path[depth] == name]
            bare = any(len(s.path) == depth + 1 and isinstance(s.value, str) for s in own)
            if not {s.path[-1] for s in own}.union(["class_path"] * bare).issuperset(wanted):
                first = min(own, key=lambda s: len(s.path))
                below = ".".join(first.path[depth + 1 :])
                place = first.place.removesuffix(f".{below}") if below else first.place
                hint = did_you_mean(name, [other for other in names if other != name])
                return f"{place}: {text}{'; ' * bool(hint)}{hint}"
        return ": ".join(filter(None, (".".join(self.outer), text)))

    def wrong_value(self, _: re.Match[str]) -> str:
        """Explain a wrong value by the tried types, except those that are always tried."""
        found = re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", self.message, re.MULTILINE)
        noise = ("path but", "dot import path", "<class 'NoneType'>", "instantiatable class")
        types = [each for each in found if not each.startswith(noise)]
        types = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", each) for each in types]
        types = [re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", each) for each in types]
        expected = "; or ".join(dict.fromkeys(types))
        given = re.search(r"(?:Given|Got) value: (.*?)(?:\. Got.*)?$", self.message, re.MULTILINE)
        value = given[1] if given else ""
        if value.startswith("Namespace("):  # an option sets a part of a value without parts
            inner = [s for s in self.settings if len(s.path) > len(self.outer)]
            return expected and (
                f"{self._place([s for s in inner if s.place.startswith('--')])}: {self.last} "
                f"should be {expected}; give it as a whole, or its elements in a config file, "
                "which the command line can change by their number"
            )
        last = [s for s in self.settings if s.path[-1] == self.last]
        same = [s for s in self.settings if str(s.value) == value]
        inside = [s for s in same if self.last in s.path]
        place = self._place([s for s in last if s in same], inside, last, same)
        return expected and f"{place}: expected {expected}, found {value}"

    def _place(self, *settings: Sequence[Setting]) -> str:
        """Return the place of the first setting, or else the outer key as an option."""
        places = (setting.place for each in settings for setting in each)
        return next(places, f"--{'.'.join(self.outer)}")

    def _inside(self, message: str) -> tuple[ArgumentParser, Any, str]:
        """Return parser, type of the key and name of the last class in a part of the message."""
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


def _positional(parser: ArgumentParser) -> list[str]:
    """Return the parameters of a parser that are given by their place alone."""
    return [action.dest for action in parser._actions if not action.option_strings]


def _class_parser(path: str) -> ArgumentParser:
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


def _is_file(value: object) -> bool:
    return isinstance(value, str) and value.endswith((".yaml", ".yml", ".json"))


def _keys_expected(name: str, value: object, known: Iterable[str]) -> str:
    """Return what to write in place of a value where keys are expected."""
    names = [k.removeprefix(f"{name}.").split(".")[0] for k in known if k.startswith(f"{name}.")]
    named = isinstance(value, str) and "path" in names
    repair = f"write {{path: {value}}}" if named else "see --help"
    some = ", ".join(list(dict.fromkeys(names))[:3])
    return f"expected keys such as {some}, found {value}; {repair}"


def _first_unknown(name: str, known: Iterable[str]) -> str:
    """Return a dotted name up to its first part that does not exist."""
    parts = name.split(".")
    starts = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return next((s for s in starts if not any(f"{k}.".startswith(f"{s}.") for k in known)), name)


def _repair(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a suggestion in place of a dotted name that does not exist."""
    above, dot, wrong = _first_unknown(name, known).rpartition(".")
    start = above + dot
    names = {other.removeprefix(start).split(".")[0] for other in known if other.startswith(start)}
    others = f"known here: {', '.join(sorted(names))}" if 0 < len(names) <= _LISTED else ""
    prefix = prefix and prefix + start
    return did_you_mean(
        wrong.removesuffix("+"), names, prefix=prefix, otherwise=others or "see --help"
    )


def unknown_strategy(config: Mapping[str, Any]) -> str | None:
    """Return the message about a strategy that does not exist, or None if it does."""
    from lightning.pytorch.strategies import StrategyRegistry  # imports torch

    name = config.get("strategy")
    known = ["auto", *StrategyRegistry.available_strategies()]
    if not isinstance(name, str) or name in known:
        return None
    hint = did_you_mean(name, known, otherwise=f"known: {', '.join(known)}")
    return f"--trainer.strategy: unknown strategy {name}; {hint}"
