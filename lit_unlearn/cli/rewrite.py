"""`lit-unlearn rewrite`: rows of any domain -> stand-alone questions, and contrastive anchors."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import get_type_hints

from jsonargparse import ArgumentParser

from lit_unlearn.cli.config import Config, read_configs, take_config_args
from lit_unlearn.cli.explain import explain
from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.drafts import RewriteResult
from lit_unlearn.rewriting.output import count_table
from lit_unlearn.rewriting.rewrite import RewriteSettings, rewrite
from lit_unlearn.utils.tables import terminal


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``rewrite``, then its options.

    Raises:
        InputError: The command line, a config, data or a model cannot be used.
    """
    for name in ("local", "server"):  # so that their classes can be given by their bare names
        import_module(f"lit_unlearn.rewriting.{name}")
    files, options = take_config_args(args[1:])
    parser = _parser()
    if any(option.startswith(("-h", "--help", "--backend.help")) for option in options):
        parser.parse_args(options)
    result = rewrite(_settings(parser, read_configs(files), options), terminal(stderr=True))
    if result.files:
        _show(result)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="lit-unlearn rewrite", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options.")
    parser.add_class_arguments(RewriteSettings)
    return parser


def _settings(parser: ArgumentParser, config: Config, options: Sequence[str]) -> RewriteSettings:
    """Return the settings of the config with the options on top.

    Raises:
        InputError: A key or value is not known or has the wrong type.
    """
    given = ["--config", json.dumps(config.values, default=str)] if config.values else []
    try:
        parsed = parser.parse_args([*given, *options])
        made = parser.instantiate_classes(parsed)
    except ArgumentError as error:
        message = explain(str(error), config, options, get_type_hints(RewriteSettings))
        raise InputError(message) from None
    return RewriteSettings(**{each.name: made[each.name] for each in fields(RewriteSettings)})


def _show(result: RewriteResult) -> None:
    console = terminal()
    console.print(count_table(result))
    for path in result.files:
        console.print(str(path), soft_wrap=True)
