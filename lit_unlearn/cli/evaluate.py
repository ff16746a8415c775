"""`lit-unlearn evaluate`: suites put to a model, beside its start and a reference."""

from __future__ import annotations

import json
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from lit_unlearn.cli.config import Config, read_configs, take_config_args
from lit_unlearn.cli.explain import explain
from lit_unlearn.cli.suite_names import choose_suites, known_suites, suite_lines
from lit_unlearn.distributed.ranks import processes, rank
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.report.evaluation_show import show_evaluation


@dataclass
class Options:
    """Put suites to a model, and write a table, metrics.json, rows.jsonl and evaluation.html.

    What a model has said is kept in the output folder: a stopped evaluation continues, and one with
    a further suite asks that suite only.

    Args:
        model: Hub id, local folder, .gguf file, or `random-tiny`.
        suites: The suites and their settings, by the name under which they are shown (in a config);
            `--suite NAME` takes one with its defaults.
        reference: A model that never saw what was to be forgotten (retain model), or the folder of
            an earlier evaluation of it. Some figures are defined against it only.
        start: The model before unlearning, or the folder of an earlier evaluation of it. It gives
            the balanced score.
        data_root: Folder that stands in for the hub; null reads the environment variable
            LIT_UNLEARN_DATA.
        output: Folder of everything that is written; null takes runs/evaluate/<model>.
        batch_size: Probes per forward pass; figures do not depend on it.
        limit: Most rows of each group of each suite, spread evenly; null for all.
    """

    model: str
    suites: dict[str, Suite] | None = None
    reference: str | None = None
    start: str | None = None
    data_root: Path | None = None
    output: Path | None = None
    batch_size: int = 16
    limit: int | None = None


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``evaluate``, then its options.

    Raises:
        InputError: The command line, a config, data or a model cannot be used.
    """
    files, rest = take_config_args(args[1:])
    names, others = _take_names(rest)
    parser = _parser()
    if any(option.startswith(("-h", "--help", "--suites.help")) for option in others):
        parser.parse_args(others)
    options, loading = _parsed(parser, choose_suites(read_configs(files), names), others)
    folder = options.output or Path("runs/evaluate") / folder_name(options.model)
    with processes():
        found = evaluate(
            options.model,
            options.suites or {},
            start=options.start,
            reference=options.reference,
            output=folder,
            data_root=options.data_root,
            batch_size=options.batch_size,
            limit=options.limit,
            loading=loading,
        )
        if rank() == 0:
            show_evaluation(found, folder)


def folder_name(model: str) -> str:
    """Return the last two parts of a hub id or path: ``tofu--model`` for ``runs/tofu/model``."""
    parts = [part for part in Path(model).expanduser().parts if part not in ("/", ".", "..")]
    return "--".join(parts[-2:]) or "model"


def _take_names(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the values of all ``--suite NAME`` off the other arguments."""
    names: list[str] = []
    others: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--suite":
            name = next(rest, "")
            if not name or name.startswith("-"):
                raise InputError("--suite: expected the name of a suite after it")
            names.append(name)
        elif arg.startswith("--suite="):
            names.append(arg.partition("=")[2])
        else:
            others.append(arg)
    return names, others


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Leaves the list of suites as it is."""


def _parser() -> ArgumentParser:
    """Make the parser; its help lists the suites below the options."""
    known = known_suites()  # loads them, so that each can be given by its bare name
    parser = ArgumentParser(
        prog="lit-unlearn evaluate",
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Formatter,
        epilog=f"suites (settings: --suites.help CLASS):\n{suite_lines(known)}",
    )
    parser.add_argument("--config", action="config", help="YAML file with suites and options.")
    parser.add_argument("--suite", metavar="NAME", help="A suite to run; may be given repeatedly.")
    parser.add_class_arguments(Options, as_positional=True)
    parser.add_class_arguments(Loading)
    return parser


def _parsed(
    parser: ArgumentParser, config: Config, options: Sequence[str]
) -> tuple[Options, Loading]:
    """Parse config and options.

    Raises:
        InputError: An option, key or value is not known or has the wrong type.
    """
    given = ["--config", json.dumps(config.values, default=str)]
    try:
        parsed = parser.parse_args([*given, *options])
    except ArgumentError as error:
        roots = get_type_hints(Options) | get_type_hints(Loading)
        message = explain(str(error), config, options, roots)
        message = message.split(", found {'")[0]  # not all suites' settings
        if "arguments are required" in message:
            message += "; they have no default, so that a config has to give them (--suites.help)"
        raise InputError(message) from None
    made = parser.instantiate(parsed)

    def chosen(cls: type[Any]) -> dict[str, Any]:
        return {each.name: made[each.name] for each in fields(cls)}

    return Options(**chosen(Options)), Loading(**chosen(Loading))
