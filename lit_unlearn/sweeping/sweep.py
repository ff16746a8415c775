"""Run `lit-unlearn fit` for every combination of some values, each in a separate folder.

This file does not import torch; the runs do.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import yaml
from rich.console import Console

from lit_unlearn.errors import InputError
from lit_unlearn.sweeping.jobs import Job, check_fits, is_finished, job_files, run_jobs
from lit_unlearn.sweeping.table import (
    SUMMARY,
    RunOutcome,
    outcome_files,
    read_outcomes,
    write_outcomes,
)
from lit_unlearn.utils.debug_flags import debug_flags
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.locks import take_lock
from lit_unlearn.utils.options import split_options
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path

__all__ = ["plan_jobs", "run_name", "run_settings", "short_keys", "sweep"]

_FOLDER_OPTION = "--trainer.default_root_dir"
_RESULT = "config.yaml"
"""File that every run writes; `summary.json` comes from AnswerEvaluation."""
_LONGEST = 60
"""Largest number of characters of one value within the name of a folder."""


def sweep(
    values: Mapping[str, Sequence[str]],
    common: Sequence[str] = (),
    *,
    output: Path,
    jobs: int | None = None,
    gpus: Sequence[str] = (),
    console: Console | None = None,
) -> list[RunOutcome]:
    """Run every combination of values that is not finished, and write sweep.json and sweep.csv.

    Args:
        values: Values of each option, by its config key, such as
            ``model.optimizer.init_args.lr``. Values of ``config`` are config files, or lists of
            files in YAML, which are merged over those in `common`.
        common: Options of every run, such as ``--config=configs/tofu.yaml``.
        output: Folder of the runs.
        jobs: Number of simultaneous runs; None for the number of GPUs, or 1.
        gpus: GPUs that the runs share.
        console: Console for the progress; None takes the standard error stream.

    Returns:
        The runs with their figures, or the error of a run that failed.

    Raises:
        InputError: There are no values, two runs would share a folder, `jobs` does not fit, or
            `fit` would refuse a run.
    """
    at_once = (len(gpus) or 1) if jobs is None else jobs
    if at_once < 1 or (gpus and at_once > len(gpus)):
        limit = f"1 to {len(gpus)}, one for each GPU" if gpus else "at least 1"
        raise InputError(f"--jobs: expected {limit}, found {at_once}")
    output = local_path(output)
    settings = run_settings(values)
    planned = plan_jobs(settings, common, output)
    targets = [file for job in planned if not is_finished(job) for file in job_files(job)]
    check_targets(output, [*outcome_files(output), *targets], [], "--output")
    try:
        expected = check_fits(planned)
    except InputError as error:
        raise InputError(_renamed(str(error), values)) from None
    lock = take_lock(output / ".lock", "sweep")
    try:
        failures = run_jobs(planned, at_once, gpus, console, expected)
        found = read_outcomes(planned, settings, failures)
        write_outcomes(output, found)
    finally:
        lock.release()
    return found


def _renamed(message: str, values: Mapping[str, Sequence[str]]) -> str:
    """Return an error message of `fit`, with a swept option under its name in the sweep."""
    named = re.match(r"--([\w.]+)", message)
    swept = named and any(f"{key}.".startswith(f"{named[1]}.") for key in values)
    if not swept:
        return message
    reason, meant, hint = message.partition("did you mean ")
    return reason.replace("--", "--sweep.", 1) + meant + hint.replace("--", "--sweep.")


def plan_jobs(
    settings: Mapping[str, Mapping[str, str]], common: Sequence[str], output: Path
) -> list[Job]:
    """Return the jobs of runs.

    `settings` has key and value of each run by its name, see `run_settings`.

    Raises:
        InputError: A common option sets the folder of a run, or debugs it.
    """
    given = {option.name: option.value or "" for option in split_options(common)}
    start = "--trainer."
    flags = {k.removeprefix(start): yaml.safe_load(v) for k, v in given.items() if start in k}
    for flag in debug_flags(flags):
        raise InputError(f"--{flag}: a debug run writes no results; leave it out of a sweep")
    if _FOLDER_OPTION in given:
        raise InputError(f"{_FOLDER_OPTION}: a sweep sets the folder of each run; give --output")
    jobs = []
    for name, chosen in settings.items():
        own = [part for key, value in chosen.items() for part in _options(key, value)]
        folder = output / name
        arguments = ("fit", *common, *own, f"{_FOLDER_OPTION}={folder}")
        jobs.append(Job(name, folder, arguments, _RESULT, figures=SUMMARY))
    return jobs


def run_settings(values: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Return key and value of each run by its name; the last key varies fastest.

    Raises:
        InputError: There are no values, or two runs have the same name.
    """
    if not values:
        raise InputError("sweep: expected --sweep.KEY VALUES, such as --sweep.seed_everything 0,1")
    combinations = list(product(*values.values()))
    names = [run_name(list(values), each) for each in combinations]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"sweep: expected values that differ in the names of their folders, found {name} "
            f"{count} times; shorten the values, or put them into config files"
        )
    pairs = zip(names, combinations, strict=True)
    return {name: dict(zip(values, each, strict=True)) for name, each in pairs}


def run_name(keys: Sequence[str], values: Sequence[str]) -> str:
    """Return the name of a run's folder, such as ``npo,lr=1e-5,seed_everything=0``."""
    return ",".join(
        _plain("+".join(Path(file).stem for file in _config_files(value)))
        if key == "config"
        else f"{short}={_plain(value)}"
        for key, short, value in zip(keys, short_keys(keys), values, strict=True)
    )


def short_keys(keys: Sequence[str]) -> list[str]:
    """Return the shortest ending of each key that no other key has."""

    def shortest(key: str) -> str:
        parts = key.split(".")
        ends = (".".join(parts[-length:]) for length in range(1, len(parts)))
        unique = (e for e in ends if sum(k == e or k.endswith(f".{e}") for k in keys) == 1)
        return next(unique, key)

    return [shortest(key) for key in keys]


def _plain(text: str) -> str:
    """Return text that can name a folder; a long text ends in its checksum.

    Without the checksum, two sweeps into one folder could give different runs the same name, and
    the later run would replace the earlier one.
    """
    plain = re.sub(r"[^\w.+-]+", "-", text).strip("-") or "-"
    if len(plain) <= _LONGEST:
        return plain
    return f"{plain[: _LONGEST - 9]}~{text_digest(text)[:8]}"


def _options(key: str, value: str) -> list[str]:
    if key != "config":
        return [f"--{key}={value}"]
    return [part for file in _config_files(value) for part in ("--config", file)]


def _config_files(value: str) -> list[str]:
    return list(map(str, yaml.safe_load(value))) if value.startswith("[") else [value]
