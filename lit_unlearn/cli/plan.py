"""`lit-unlearn plan`: what a config for `fit` will need of memory, FLOPs, disk and time."""

from __future__ import annotations

import inspect
from pathlib import Path

from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

from lit_unlearn.cli.classes import load_classes
from lit_unlearn.cli.parsing import arguments, make_parser, parse, read_run
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.planning import flops, memory
from lit_unlearn.planning.plan import plan
from lit_unlearn.planning.plan_table import as_json, show
from lit_unlearn.planning.scenario import TrainerSettings
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.tables import terminal

__all__ = ["DOES_NOT_FIT", "idle_keys", "main", "plan_parser"]

DOES_NOT_FIT = 3
"""Exit status where the run does not fit the device that was named."""


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``plan``, then its options.

    Raises:
        InputError: The command line, the config, data or a model's config cannot be used.
        SystemExit: The run does not fit the device that was named.
    """
    if "--formulas" in args:
        print(f"{memory.__doc__}\n{flops.__doc__}")
        return
    config, options = read_run(args[1:], idle_keys())
    given = parse(plan_parser(), options, config)
    made = plan(**arguments(plan, given) | {"module": given.model})
    show(made, terminal())
    if given.output is not None:
        write_text(given.output, json_text(as_json(made), indent=1))
    if made.fits is False:
        raise SystemExit(DOES_NOT_FIT)


def idle_keys() -> set[str]:
    """Return the keys of a config for `fit` that play no part in a plan."""
    used = inspect.signature(TrainerSettings).parameters
    idle = {f"trainer.{name}" for name in inspect.signature(Trainer).parameters if name not in used}
    return idle | {"seed_everything", "ckpt_path", "weights_only"}


def plan_parser() -> ArgumentParser:
    """Return the parser; it knows the classes of a run by their bare names."""
    load_classes()
    parser = make_parser(
        "plan",
        description="Say what a config for `fit` will need before anything is loaded: memory, "
        "FLOPs, disk and time, on one device and on several, and what would make it fit. The exit "
        f"status is {DOES_NOT_FIT} where it does not fit the device that is named.",
    )
    parser.add_argument("--config", action="config", help="YAML file, as for `fit`.")
    parser.add_argument("--output", type=Path | None, help="JSON file for all figures.")
    parser.add_argument("--formulas", action="store_true", help="Print the formulas and leave.")
    parser.add_function_arguments(plan, skip={"module", "data"})
    parser.add_class_arguments(UnlearnModule, "model")
    parser.add_class_arguments(UnlearnDataModule, "data")
    return parser
