"""`lit-unlearn sweep`: seeds and grids on one machine, each run in a process and folder of its own.

Nothing here imports torch: the runs do.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml
from rich.console import Console

from lit_unlearn.sweeping.jobs import LOG, Failure, Job, run_jobs
from lit_unlearn.sweeping.table import SUMMARY, Outcome, outcomes, show, write_outcomes
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.tables import terminal

_SWEPT = "--sweep."
_FOLDER_OPTION = "--trainer.default_root_dir"
_LONGEST = 60
"""Characters of one value within the name of a folder."""
_DESCRIPTION = """\
Runs `lit-unlearn fit` once for each combination of values:

  lit-unlearn sweep --config A.yaml --sweep.model.optimizer.init_args.lr 1e-5,2e-5 \\
      --sweep.seed_everything 0,1,2 --output runs/sweep

--sweep.KEY takes values of any option of `fit`, as a list ([1e-5, 2e-5], [null, {...}]) or
separated by commas. --sweep.config takes config files, each laid over those of --config; an entry
that is itself a list is several files: [npo.yaml, [bidirectional.yaml, smollm2.yaml]]. All other
options go to every run as they are. A run that was finished with the same options and configs is
not run again.
"""
_EPILOG = """\
Each run is a folder in --output, with its output in output.log. sweep.json and sweep.csv hold the
settings and figures of all runs; those of an evaluation are among them where one lies in the run's
folder `evaluation`:

  lit-unlearn evaluate RUN/model --config configs/evaluate.yaml --output RUN/evaluation
  lit-unlearn compare FOLDER/*/evaluation
"""


@dataclass(frozen=True)
class Axis:
    """An option and the values that it takes in turn."""

    key: str
    """As in a config, such as ``model.optimizer.init_args.lr``; or ``config``."""
    values: tuple[str, ...]
    """As they were written."""


@dataclass(frozen=True)
class Sweep:
    """A parsed command line."""

    axes: tuple[Axis, ...]
    common: tuple[str, ...]
    """Options of every run."""
    output: Path
    jobs: int = 1
    gpus: tuple[str, ...] = ()


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``sweep``, then its options.

    Raises:
        InputError: The command line cannot be used.
        SystemExit: With status 1 where a run failed.
    """
    failures = sweep(parse(args[1:]))
    if failures:
        raise SystemExit(1)


def sweep(given: Sweep) -> list[Failure]:
    """Run what is not finished yet, and write sweep.json and sweep.csv.

    Returns:
        The runs that failed.
    """
    jobs = plan(given)
    console = terminal(stderr=True)
    failures = run_jobs(jobs, given.jobs, given.gpus, console)
    found = outcomes(jobs, settings(given), failures)
    write_outcomes(given.output, found)
    show(terminal(), found, given.output)
    for outcome in found:
        if outcome.error:
            _tell(console, outcome)
    return failures


def _tell(console: Console, outcome: Outcome) -> None:
    text = f"failed: {outcome.name}: {outcome.error} ({outcome.folder / LOG})"
    console.print(text, style="red", soft_wrap=True)


# ------------------------------------------------------------------------------------- the options


def parse(args: Sequence[str]) -> Sweep:
    """Split the sweep's options from those of its runs.

    Raises:
        InputError: A value is missing or no list, or an option is not one of a sweep.
    """
    swept, others = _take_swept(args)
    parser = argparse.ArgumentParser(
        prog="lit-unlearn sweep",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--output", type=Path, help="folder of the runs; must be given")
    parser.add_argument("--jobs", type=int, help="runs at a time; 1, or as many as --gpus")
    parser.add_argument("--gpus", default="", help="GPUs to share out among the runs, as 0,1")
    try:
        known, common = parser.parse_known_args(others)
    except argparse.ArgumentError as error:
        raise _input_error(f"sweep: {error}") from None
    if known.output is None:
        raise _input_error("sweep: expected --output FOLDER, found none")
    if any(option.split("=")[0] == _FOLDER_OPTION for option in common):
        raise _input_error(f"{_FOLDER_OPTION}: each run of a sweep has its own; give --output")
    gpus = tuple(known.gpus.split(",")) if known.gpus else ()
    jobs = (len(gpus) or 1) if known.jobs is None else known.jobs
    if jobs < 1 or (gpus and jobs > len(gpus)):
        limit = f"1 to {len(gpus)}, one for each GPU" if gpus else "at least 1"
        raise _input_error(f"--jobs: expected {limit}, found {jobs}")
    axes = tuple(Axis(key, values_of(key, text)) for key, text in swept)
    if not axes:
        raise _input_error(
            "sweep: expected --sweep.KEY VALUES, such as --sweep.seed_everything 0,1"
        )
    return Sweep(axes, tuple(common), known.output, jobs, gpus)


def _take_swept(args: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The keys and values of all ``--sweep.KEY VALUES``, and the other arguments."""
    swept: list[tuple[str, str]] = []
    others: list[str] = []
    rest = iter(args)
    for arg in rest:
        if not arg.startswith(_SWEPT):
            others.append(arg)
            continue
        key, equals, value = arg.removeprefix(_SWEPT).partition("=")
        value = value if equals else next(rest, "")
        if not value or value.startswith("--"):
            raise _input_error(f"{_SWEPT}{key}: expected a list of values after it")
        swept.append((key, value))
    return swept, others


def values_of(key: str, text: str) -> tuple[str, ...]:
    """The entries of a list, each as it was written.

    Args:
        key: For the message.
        text: ``[a, b]`` in YAML's flow style, or ``a,b``.

    Raises:
        InputError: It is no list, or an entry occurs twice.
    """
    whole = text if text.startswith("[") else f"[{text}]"
    try:
        node = yaml.compose(whole, yaml.SafeLoader)
    except yaml.YAMLError:
        node = None
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise _input_error(f"{_SWEPT}{key}: expected a list such as [1e-5, 2e-5], found {text}")
    values = tuple(
        entry.value
        if isinstance(entry, yaml.ScalarNode)
        else whole[entry.start_mark.index : entry.end_mark.index]
        for entry in node.value
    )
    for value, count in Counter(values).items():
        if count > 1:
            raise _input_error(f"{_SWEPT}{key}: expected each value once, found {value} twice")
    return values


def _input_error(message: str) -> ValueError:
    """What the user can mend. Its class comes with torch, which only a mistake waits for."""
    from lit_unlearn.errors import InputError

    return InputError(message)


# ---------------------------------------------------------------------------------------- the runs


def plan(given: Sweep) -> list[Job]:
    """The runs, the last option varying fastest.

    Raises:
        InputError: Two runs would share a folder.
    """
    jobs = []
    for name, chosen in settings(given).items():
        folder = given.output / name
        own = [part for key, value in chosen.items() for part in _options(key, value)]
        arguments = ("fit", *given.common, *own, f"{_FOLDER_OPTION}={folder}")
        jobs.append(Job(name, folder, arguments, SUMMARY))
    return jobs


def settings(given: Sweep) -> dict[str, dict[str, str]]:
    """Name of each run -> key -> value."""
    keys = [axis.key for axis in given.axes]
    combinations = list(product(*(axis.values for axis in given.axes)))
    names = [run_name(keys, values) for values in combinations]
    for name, count in Counter(names).items():
        if count > 1:
            raise _input_error(
                f"sweep: expected values that differ in the names of their folders, found {name} "
                f"{count} times; shorten the values, or put them into config files"
            )
    return {
        name: dict(zip(keys, values, strict=True))
        for name, values in zip(names, combinations, strict=True)
    }


def run_name(keys: Sequence[str], values: Sequence[str]) -> str:
    """The name of a run's folder, such as ``npo,lr=1e-5,seed_everything=0``."""
    return ",".join(
        _plain("+".join(Path(file).stem for file in config_files(value)))
        if key == "config"
        else f"{short}={_plain(value)}"
        for key, short, value in zip(keys, short_keys(keys), values, strict=True)
    )


def short_keys(keys: Sequence[str]) -> list[str]:
    """Each key without the parts in front that are not needed to tell it from the others."""
    shorts = []
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        shorts.append(
            next(
                end
                for end in ends
                if sum(other == end or other.endswith(f".{end}") for other in keys) == 1
                or end == key
            )
        )
    return shorts


def _plain(text: str) -> str:
    """Without what does not belong into the name of a folder; a long one ends in its checksum.

    Cut alone, two sweeps into one folder may give different runs one name, and the later run
    replaces the earlier.
    """
    plain = re.sub(r"[^\w.+-]+", "-", text).strip("-") or "-"
    if len(plain) <= _LONGEST:
        return plain
    checksum = text_digest(text)[:8]
    return f"{plain[: _LONGEST - 9]}~{checksum}"


def _options(key: str, value: str) -> list[str]:
    if key != "config":
        return [f"--{key}={value}"]
    return [part for file in config_files(value) for part in ("--config", file)]


def config_files(value: str) -> list[str]:
    """The files of one value of ``--sweep.config``."""
    return list(map(str, yaml.safe_load(value))) if value.startswith("[") else [value]
