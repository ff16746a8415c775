"""`lit-unlearn sweep`: seeds and grids on one machine, with a process and a folder for each run.

This file does not import torch; the runs do.
"""

import argparse
from pathlib import Path

import yaml

from lit_unlearn.cli.config import parse_value
from lit_unlearn.cli.parsing import asks_for_help, make_parser, parse
from lit_unlearn.errors import InputError
from lit_unlearn.sweeping.jobs import LOG
from lit_unlearn.sweeping.sweep import sweep
from lit_unlearn.sweeping.table import show
from lit_unlearn.utils.options import take_options
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.tables import terminal

__all__ = ["main", "values_of"]

_SWEPT = "--sweep."
_DESCRIPTION = """\
Runs `lit-unlearn fit` once for each combination of values:

  lit-unlearn sweep --config A.yaml --sweep.model.optimizer.init_args.lr 1e-5,2e-5 \\
      --sweep.seed_everything 0,1,2 --output runs/sweep

--sweep.KEY takes values of any option of `fit`, as a list ([1e-5, 2e-5], [null, {...}]) or
separated by commas. --sweep.config takes config files, each of which is merged into those of
--config. An entry may itself be a list of files: [npo.yaml, [bidirectional.yaml, smollm2.yaml]].
All other options are given to every run. A run that was finished with the same options and configs
is not repeated.
"""
_EPILOG = """\
Each run has a folder in --output, which contains what it printed as output.log. sweep.json and
sweep.csv hold the settings and figures of all runs. They include the figures of an evaluation if it
is in the run's folder `evaluation`:

  lit-unlearn evaluate RUN/model --config configs/evaluate.yaml --output RUN/evaluation
  lit-unlearn compare FOLDER/*/evaluation
"""


def main(args: list[str]) -> None:
    """Run the command; the status is 1 if a run failed."""
    form = argparse.RawDescriptionHelpFormatter
    parser = make_parser("sweep", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=form)
    parser.add_argument("--output", type=Path, required=True, help="Folder of the runs.")
    parser.add_argument(
        "--jobs", type=int, help="Number of runs at a time; default: 1, or the number of --gpus."
    )
    parser.add_argument("--gpus", default="", help="GPUs for the runs, such as 0,1.")
    swept, rest = take_options(args[1:], lambda name: name.startswith(_SWEPT))
    own, common = take_options(rest, lambda name: name in ("--output", "--jobs", "--gpus"))
    own_args = [f"{name}={value}" for name, value in own]
    given = parse(parser, ["--help"] if asks_for_help(common) else own_args)
    values = {name.removeprefix(_SWEPT): values_of(name, text) for name, text in swept}
    gpus = given.gpus.split(",") if given.gpus else []
    errors = terminal(stderr=True)
    found = sweep(values, common, output=given.output, jobs=given.jobs, gpus=gpus, console=errors)
    show(terminal(), found, local_path(given.output))
    failed = [outcome for outcome in found if outcome.error]
    for outcome in failed:
        text = f"failed: {outcome.name}: {outcome.error} ({outcome.folder / LOG})"
        errors.print(text, style="red", soft_wrap=True)
    if failed:
        raise SystemExit(1)


def values_of(option: str, text: str) -> tuple[str, ...]:
    """Return the texts of the entries of ``[a, b]`` (YAML's flow style) or ``a,b``.

    Raises:
        InputError: The value is not a list, or two entries are equal for `fit`.
    """
    whole = text if text.startswith("[") else f"[{text}]"
    try:
        node = yaml.compose(whole, yaml.SafeLoader)
    except yaml.YAMLError:
        node = None
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise InputError(f"{option}: expected a list such as [1e-5, 2e-5], found {text}")
    values = tuple(
        entry.value
        if isinstance(entry, yaml.ScalarNode)
        else whole[entry.start_mark.index : entry.end_mark.index]
        for entry in node.value
    )
    parsed = [value and parse_value(value) for value in values]
    meant = [(isinstance(value, bool), value) for value in parsed]  # in Python, True equals 1
    for number, value in enumerate(values):
        first = meant.index(meant[number])
        if first < number:
            found = f"{values[first]} and again {value}"
            raise InputError(f"{option}: expected each value once, found {found}")
    return values
