"""`lit-unlearn interference`: how the objectives of a config fight on a model, without training."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from typing import get_type_hints

from jsonargparse import ArgumentParser

from lit_unlearn.cli.config import Config, read_configs, remove_by_null, take_config_args
from lit_unlearn.cli.explain import explain
from lit_unlearn.cli.signatures import load_classes
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.errors import InputError
from lit_unlearn.interference_study.interference import Options, interference
from lit_unlearn.training.module import UnlearnModule

_OF_A_RUN = ("trainer", "seed_everything", "ckpt_path", "weights_only")
"""Keys of a config for `fit` that play no part here."""


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``interference``, then its options.

    Raises:
        InputError: The command line, the config, data or a model cannot be used.
    """
    load_classes()
    files, rest = take_config_args(args[1:])
    model, rest = _take_model(rest)
    config, rest = remove_by_null(read_configs(files), rest)
    parser = _parser()
    if any(option.startswith(("-h", "--help")) for option in rest):
        parser.parse_args(rest)
    interference(*_parsed(parser, config, rest), model)


def _take_model(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split ``--model NAME`` off; options such as ``--model.gate.action`` stay."""
    others, found, rest = [], None, iter(args)
    for arg in rest:
        if arg == "--model":
            found = next(rest, "")
        elif arg.startswith("--model="):
            found = arg.partition("=")[2]
        else:
            others.append(arg)
    if found is not None and (not found or found.startswith("-")):
        raise InputError("--model: expected a hub id or a folder after it")
    return found, others


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lit-unlearn interference",
        description="Measure how the objectives of a config for `fit` fight, without training: "
        "gradient cosines, the effect of small steps, and the gap between the objectives' data. "
        "--model NAME measures another model than the config's start model (such as a run's "
        "export); the teacher remains that of the config.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file, as for `fit`.")
    parser.add_class_arguments(Options)
    parser.add_class_arguments(UnlearnModule, "model")
    parser.add_class_arguments(UnlearnDataModule, "data")
    return parser


def _parsed(
    parser: ArgumentParser, config: Config, options: Sequence[str]
) -> tuple[UnlearnModule, UnlearnDataModule, Options]:
    """Module, data module and options.

    Raises:
        InputError: A key or value is not known or has the wrong type.
    """
    values = {key: value for key, value in config.values.items() if key not in _OF_A_RUN}
    seed = config.values.get("seed_everything")
    if isinstance(seed, int) and not isinstance(seed, bool):
        values["data"] = {"seed": seed, **(values.get("data") or {})}
    roots = {**get_type_hints(Options), "model": UnlearnModule, "data": UnlearnDataModule}
    given = ["--config", json.dumps(values, default=str)] if values else []
    try:
        parsed = parser.parse_args([*given, *options])
        made = parser.instantiate_classes(parsed)
    except ArgumentError as error:
        known = Config(values, config.origins)
        message = explain(str(error), known, options, roots)
        raise InputError(message) from None
    return made.model, made.data, Options(**{f.name: made[f.name] for f in fields(Options)})
