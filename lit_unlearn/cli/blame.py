"""Origin of a setting: an option of the command line, or file and line of a key."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lit_unlearn.cli.config import Config, KeyPath, Origin, parse_value
from lit_unlearn.cli.failures import causes, foreign_line
from lit_unlearn.errors import InputError
from lit_unlearn.utils.options import split_options

__all__ = ["Setting", "blame", "file_settings", "settings_of"]


class Setting(NamedTuple):
    """One key of a config, or one option."""

    path: KeyPath
    value: Any
    place: str
    """Text for an error: file, line and key, or the option."""
    owner: str = ""
    """Class to which the key belongs, if that is known."""


def settings_of(config: Config, args: Sequence[str]) -> list[Setting]:
    """Return the settings of the command line, which take precedence, then those of the files."""
    options = []
    for option in split_options(args):
        name = option.name.removesuffix("+")
        path = tuple(name[2:].split("."))
        options.append(Setting(path, option.value, name))
        value = parse_value(option.value or "")
        appended = option.name.endswith("+") and not isinstance(value, list)
        options += _inner([value] if appended else value, path, _option)
    return [*options, *file_settings(config)]


def _option(path: KeyPath) -> str:
    return f"--{'.'.join(path)}"


def file_settings(config: Config) -> Iterator[Setting]:
    """Yield every key of the files with its value and place."""

    def place(path: KeyPath) -> str:
        where = config.origin(path)
        return f"{where}: {'.'.join(path)}" if isinstance(where, Origin) else where or _option(path)

    return _inner(config.values, (), place)


def _inner(
    values: Any, above: KeyPath, place: Callable[[KeyPath], str], owner: str = ""
) -> Iterator[Setting]:
    """Yield every key inside a value, which belongs to the class `owner`."""
    items = values.items() if isinstance(values, Mapping) else ()
    for key, value in enumerate(values) if isinstance(values, list) else items:
        path = (*above, str(key))
        yield Setting(path, value, place(path), owner)
        named = value.get("class_path", "") if isinstance(value, Mapping) else ""
        inner = str(named).rpartition(".")[2] or (owner if key == "init_args" else "")
        yield from _inner(value, path, place, inner)


def blame(error: Exception, config: Config, args: Sequence[str]) -> None:
    """Add the place of the wrong setting to the message of a set-up error.

    An error of a library becomes a one-line `InputError` if a class of the config raised it.
    """
    settings, chain = settings_of(config, args), list(causes(error))
    input_error = next((each for each in chain if isinstance(each, InputError)), None)
    if input_error is not None:
        input_error.args = (_located(str(input_error), settings),)
        return
    made, line = re.search(r"class_path '([\w.]+)'", str(error)), foreign_line(error)
    if made and line:
        names = (made[1], made[1].rpartition(".")[2])
        places = [s.place for s in settings if s.value in names]
        raise InputError(": ".join([*places[:1], line])) from error


def _located(message: str, settings: Sequence[Setting]) -> str:
    """Return a message after the place of the first setting that it names.

    A missing setting has the place of its parent, such as an objective. A setting of a source is
    identified by the source's path.
    """
    keys = re.findall(r"`((?:model|data|trainer)\.[\w.]+)`", message)
    value = re.search(r"Found '([^']+)'", message)
    for key in keys:
        under = [s for s in settings if ".".join(s.path).startswith(key)]
        exact = [s for s in under if value and s.value == value[1]]
        for setting in exact or [s for s in under if ".".join(s.path) == key]:
            return _with_place(setting, message)
    for key in keys:
        parents = [s for s in settings if s.path[1:] and key.startswith(f"{'.'.join(s.path)}.")]
        if parents:
            return _with_place(max(parents, key=lambda s: len(s.path)), message)
    words = re.findall(r"`(\w[\w.]*)`", message)
    for setting in settings:
        inner = any(f".{'.'.join(setting.path)}".endswith(f".{w}") for w in words if "." in w)
        named = setting.path[-1] in ("path", *words) and isinstance(setting.value, str)
        if inner or (named and re.search(rf"'{re.escape(setting.value)}['\[]", message)):
            return _with_place(setting, message)
    return message


def _with_place(setting: Setting, message: str) -> str:
    place = setting.place.removesuffix(f": {'.'.join(setting.path)}")
    return message if message.startswith(place) else f"{place}: {message}"
