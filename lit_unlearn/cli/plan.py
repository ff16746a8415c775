"""`lit-unlearn plan`: what a config for `fit` will need of memory, FLOPs, disk and time."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

from lit_unlearn.cli.config import Config, read_configs, remove_by_null, take_config_args
from lit_unlearn.cli.explain import explain
from lit_unlearn.cli.signatures import load_classes
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.errors import InputError
from lit_unlearn.planning import flops, memory
from lit_unlearn.planning.plan import plan
from lit_unlearn.planning.plan_table import as_json, show
from lit_unlearn.planning.scenario import TrainerSettings
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.tables import terminal

DOES_NOT_FIT = 3
"""Exit status where the run does not fit the device that was named."""

_OF_A_RUN = ("seed_everything", "ckpt_path", "weights_only")
"""Keys of a config for `fit` that play no part here."""


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``plan``, then its options.

    Raises:
        InputError: The command line, the config, data or a model's config cannot be used.
        SystemExit: With status 3 where the run does not fit the device that was named.
    """
    if "--formulas" in args:
        print(f"{memory.__doc__}\n{flops.__doc__}")
        return
    files, rest = take_config_args(args[1:])
    config, rest = remove_by_null(read_configs(files), _without_idle(rest))
    if any(option.startswith(("-h", "--help")) for option in rest):
        plan_parser().parse_args(rest)
    given = parse(config, rest)
    output = given.pop("output")
    made = plan(given.pop("model"), given.pop("data"), **given)
    show(made, terminal())
    if output is not None:
        write_text(output, json_text(as_json(made), indent=1))
    if made.fits is False:
        raise SystemExit(DOES_NOT_FIT)


def _without_idle(args: Sequence[str]) -> list[str]:
    """The options without those of the trainer that play no part here."""
    used = {each.name for each in fields(TrainerSettings)}
    known = set(signature(Trainer).parameters) - used
    others: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        name, equals, _ = arg.partition("=")
        idle = name.startswith("--trainer.") and name.split(".")[1].rstrip("+") in known
        if idle or name.lstrip("-") in _OF_A_RUN:
            rest = rest if equals else rest[1:]
        else:
            others.append(arg)
    return others


def plan_parser() -> ArgumentParser:
    """All options; classes can be given by their bare names."""
    load_classes()
    parser = ArgumentParser(
        prog="lit-unlearn plan",
        description="Say what a config for `fit` will need before anything is loaded: memory, "
        "FLOPs, disk and time, on one device and on several, and what would make it fit. The exit "
        f"status is {DOES_NOT_FIT} where it does not fit the device that is named.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file, as for `fit`.")
    parser.add_argument("--output", type=Path | None, help="JSON file for all figures.")
    parser.add_argument("--formulas", action="store_true", help="Print the formulas and leave.")
    parser.add_function_arguments(plan, skip={"module", "data"})
    parser.add_class_arguments(UnlearnModule, "model")
    parser.add_class_arguments(UnlearnDataModule, "data")
    return parser


def parse(config: Config, options: Sequence[str]) -> dict[str, Any]:
    """The arguments of `plan`.

    Raises:
        InputError: A key or value is not known or has the wrong type.
    """
    values = {key: value for key, value in config.values.items() if key not in _OF_A_RUN}
    used = {each.name for each in fields(TrainerSettings)}
    idle = set(signature(Trainer).parameters) - used
    trainer = values.get("trainer")
    if isinstance(trainer, Mapping):
        values["trainer"] = {k: v for k, v in trainer.items() if k not in idle}
    roots = {**get_type_hints(plan), "model": UnlearnModule, "data": UnlearnDataModule}
    parser = plan_parser()
    given = ["--config", json.dumps(values, default=str)] if values else []
    try:
        made = parser.instantiate_classes(parser.parse_args([*given, *options]))
    except ArgumentError as error:
        known = Config(values, config.origins)
        raise InputError(explain(str(error), known, options, roots)) from None
    names = {*signature(plan).parameters, "model", "output"} - {"module"}
    return {name: made[name] for name in names}
