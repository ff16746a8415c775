"""`lit-unlearn plan`: estimate the memory, FLOPs, disk space and time of a config for `fit`."""

import inspect
from pathlib import Path

from jsonargparse import ArgumentParser

from lit_unlearn.cli.checking import checked
from lit_unlearn.cli.config import take_config_args
from lit_unlearn.cli.fit_forecast import run_work
from lit_unlearn.cli.parsing import arguments, make_parser, parse
from lit_unlearn.planning import flops, memory
from lit_unlearn.planning.forecast import run_forecast
from lit_unlearn.planning.plan import local_device, plan
from lit_unlearn.planning.plan_table import as_json, show
from lit_unlearn.utils.options import take_options
from lit_unlearn.utils.ownership import check_targets, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.tables import terminal

__all__ = ["DOES_NOT_FIT", "main"]

DOES_NOT_FIT = 3
"""Exit status if the run does not fit the named device."""
_OF_FIT = ("module", "data", "trainer")
"""Parameters of `plan` that come from the options of `fit`."""


def main(args: list[str]) -> None:
    """Run the command; the status is `DOES_NOT_FIT` if the run does not fit the named device."""
    if "--formulas" in args:
        print(f"{memory.__doc__}\n{flops.__doc__}")
        return
    own_names = {*inspect.signature(plan).parameters, "output"} - {*_OF_FIT}
    own, options = take_options(args[1:], lambda name: name[2:].split(".")[0] in own_names)
    own_args = [f"{name}={value}" for name, value in own]
    given = parse(_parser(), ["--help"] if {"-h", "--help"} & {*options} else own_args)
    output = None if given.output is None else local_path(given.output)
    if output is not None:
        files, _ = take_config_args(options)
        check_targets(output.parent, [output], map(local_path, files), "--output")
    run = checked(options)
    made = plan(run.model, run.datamodule, run.settings, **arguments(plan, given))
    show(made, terminal())
    if given.device is None:
        work = run_work(run.trainer, run.datamodule)
        found = run_forecast(run.model, made.scenario, made.rows, work, local_device())
        if found is not None:
            terminal().print(found.table())
    if output is not None:
        write_text(output, json_text(as_json(made), indent=1))
    if made.fits is False:
        raise SystemExit(DOES_NOT_FIT)


def _parser() -> ArgumentParser:
    parser = make_parser(
        "plan",
        description="Compute what a config for `fit` will need, before a model is loaded: memory, "
        "FLOPs, disk and time, on one device or several, and settings that would make it fit. The "
        f"exit status is {DOES_NOT_FIT} if the run does not fit the named device. All options of "
        "`fit` can be given, and a run that `fit` refuses is refused.",
    )
    parser.add_argument("--output", type=Path | None, help="JSON file for all figures.")
    parser.add_argument("--formulas", action="store_true", help="Print only the formulas.")
    parser.add_function_arguments(plan, skip={*_OF_FIT})
    return parser
