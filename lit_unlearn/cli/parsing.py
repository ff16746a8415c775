"""Parsing of command lines and config files into the objects that they name."""

import inspect
import json
import re
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from lit_unlearn.cli.config import Config, read_configs, take_config_args
from lit_unlearn.cli.mistakes import check_keys, explain
from lit_unlearn.cli.overrides import lay_over
from lit_unlearn.errors import InputError
from lit_unlearn.utils.options import take_options

__all__ = ["ExamplesFormatter", "arguments", "asks_for_help", "call", "make_parser", "parse"]
__all__ += ["plain", "read_run"]


class ExamplesFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help formatter that shows defaults, and keeps the line breaks of the examples."""


def make_parser(command: str, **settings: Any) -> ArgumentParser:
    """Return a parser without arguments that raises its errors."""
    prog = f"lit-unlearn {command}"
    return ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False, **settings)


def asks_for_help(args: Sequence[str]) -> bool:
    """Return whether one of the options prints help, such as ``--model.teacher.help``."""
    return any(re.match(r"-h$|--help|--[\w.]+\.help\b", arg) for arg in args)


def parse(parser: ArgumentParser, args: Sequence[str], config: Config | None = None) -> Namespace:
    """Parse options, which override the merged config files, and create the objects they name.

    If there are files, the parser must have an option ``--config``. Options that ask for help print
    it and end the process.

    Raises:
        InputError: An option, key or value is not known or has the wrong type.
    """
    if asks_for_help(args):
        parser.parse_args(args)
    config = config or Config()
    check_keys(config, parser)
    given = ["--config", json.dumps(config.values, default=str)] if config.values else []
    try:
        made: Namespace = parser.instantiate(parser.parse_args([*given, *args]))
    except ArgumentError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(explain(str(error), parser, config, args)) from None
    return made


def arguments(function: Callable[..., Any], given: Namespace) -> dict[str, Any]:
    """Return the parsed arguments of a function or class."""
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


def call(function: Callable[..., Any], args: Sequence[str], *positional: str) -> Any:
    """Call a function with the arguments of a command line, which begins with the command.

    The function's signature and docstring define the options; the parameters in `positional` are
    required and given without their names.
    """
    command, *options = args
    parser = make_parser(command)
    names = inspect.signature(function).parameters
    named: set[str | int] = {name for name in names if name not in positional}
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=named)
    parser.add_function_arguments(function, skip={*positional})
    return function(**arguments(function, parse(parser, options)))


def plain(value: Any) -> Any:
    """Replace defaults that cannot be written to a file: data classes and named texts."""
    if isinstance(value, Enum) and isinstance(value, str):
        return str(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return Namespace(
            **{field.name: plain(getattr(value, field.name)) for field in fields(value)}
        )
    if isinstance(value, Namespace):
        return Namespace(**{name: plain(item) for name, item in vars(value).items()})
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def read_run(args: Sequence[str], idle: Collection[str]) -> tuple[Config, list[str]]:
    """Read a config for `fit` for a command that needs a part of it.

    The command ignores the keys in `idle`, such as ``trainer.logger``.

    Returns:
        The merged files without the idle keys and with the seed of the data, and the other options.
    """
    files, rest = take_config_args(args)
    starts = tuple(f"--{key}." for key in idle)
    _, rest = take_options(rest, lambda name: f"{name.removesuffix('+')}.".startswith(starts))
    config, rest = lay_over(read_configs(files), rest)
    values = _without(config.values, idle)
    seed = config.values.get("seed_everything")
    if isinstance(seed, int) and not isinstance(seed, bool):
        values["data"] = {"seed": seed, **(values.get("data") or {})}
    return Config(values, config.origins), rest


def _without(values: Mapping[str, Any], idle: Collection[str]) -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if key.removesuffix("+") not in idle}
    for key, value in kept.items():
        inner = {each.removeprefix(f"{key}.") for each in idle if each.startswith(f"{key}.")}
        if inner and isinstance(value, Mapping):
            kept[key] = _without(value, inner)
    return kept
