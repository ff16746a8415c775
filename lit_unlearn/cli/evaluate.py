"""`lit-unlearn evaluate`: suites put to a model, beside its start and a reference."""

from __future__ import annotations

import json
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from lit_unlearn.cli.config import Config, read_configs, take_config_args
from lit_unlearn.cli.explain import explain
from lit_unlearn.cli.subjects import Loading, ModelRun, check_model
from lit_unlearn.cli.suite_names import choose_suites, known_suites, suite_lines
from lit_unlearn.distributed.ranks import processes, rank
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.balancing import balance_figures, missing_figures
from lit_unlearn.evaluation.comparison import not_common
from lit_unlearn.evaluation.evaluate import Reference
from lit_unlearn.evaluation.files import (
    METRICS,
    ROWS,
    is_evaluation,
    model_of,
    write_evaluation,
)
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.models.loading import DType
from lit_unlearn.report.evaluation_show import show_evaluations

THIS, START, REFERENCE = "model", "start", "reference"
"""Headings of the columns, and names of the folders of the other models."""


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``evaluate``, then its options.

    Raises:
        InputError: The command line, a config, data or a model cannot be used.
    """
    files, rest = take_config_args(args[1:])
    names, options = _take_names(rest)
    parser = _parser()
    if any(option.startswith(("-h", "--help", "--suites.help")) for option in options):
        parser.parse_args(options)
    config = choose_suites(read_configs(files), names)
    with processes():
        evaluate_models(**_parsed(parser, config, options))


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
    """Options from the signature of `evaluate_models`, and the suites below them."""
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
    parser.add_function_arguments(evaluate_models, as_positional=True)
    return parser


def _parsed(parser: ArgumentParser, config: Config, options: Sequence[str]) -> dict[str, Any]:
    """The arguments of `evaluate_models`.

    Raises:
        InputError: An option, key or value is not known or has the wrong type.
    """
    given = ["--config", json.dumps(config.values, default=str)]
    try:
        parsed = parser.parse_args([*given, *options])
    except ArgumentError as error:
        roots = get_type_hints(evaluate_models)
        message = explain(str(error), config, options, roots)
        message = message.split(", found {'")[0]  # not all suites' settings
        if "arguments are required" in message:
            message += "; they have no default, so that a config has to give them (--suites.help)"
        raise InputError(message) from None
    made = parser.instantiate(parsed)
    return {name: made[name] for name in signature(evaluate_models).parameters}


# ------------------------------------------------------------------------------------ the command


def evaluate_models(
    model: str,
    suites: dict[str, Suite] | None = None,
    reference: str | None = None,
    start: str | None = None,
    data_root: Path | None = None,
    output: Path | None = None,
    batch_size: int = 16,
    dtype: DType = "float32",
    device: str = "auto",
    max_length: int | None = None,
    limit: int | None = None,
    plain_chat: bool = False,
    hide_pad: bool = False,
) -> dict[str, EvaluationRecord]:
    """Put suites to a model, and write a table, metrics.json, rows.jsonl and evaluation.html.

    What a model has said is kept in the output folder: a stopped evaluation continues, and one with
    a further suite asks that suite only.

    Args:
        model: Hub id, local folder, .gguf file, or `random-tiny`.
        suites: The suites and their settings, by the name under which they are shown (in a config);
            `--suite NAME` takes one with its defaults.
        reference: A model that never saw what was to be forgotten (retain model), or the folder of
            an earlier evaluation of it. Some figures are defined against it only.
        start: The model before unlearning, or the folder of an earlier evaluation of it.
        data_root: Folder that stands in for the hub; null reads the environment variable
            LIT_UNLEARN_DATA.
        output: Folder of everything that is written; null takes runs/evaluate/<model>.
        batch_size: Probes per forward pass; figures do not depend on it.
        dtype: Number format of the weights.
        device: As torch names it (cpu, cuda:1); auto takes a GPU where there is one.
        max_length: Most tokens of a prompt and its answer; null for as many as the model was made
            for.
        limit: Most rows of each group of each suite, spread evenly; null for all.
        plain_chat: Write conversations as `Question: ... Answer:` for a model without chat
            template, which is refused otherwise.
        hide_pad: Hide the pad token (without one, the end-of-text token) from attention wherever it
            stands, as open-unlearning does: where it also closes turns, a model no longer sees
            their ends. For comparison with figures published with it.

    Returns:
        The evaluations by heading: `start` and `reference` where given, and `model`.

    Raises:
        InputError: A model, rows or settings that cannot be used.
    """
    chosen = _checked(suites, batch_size, limit)
    folder = output or Path("runs/evaluate") / folder_name(model)
    _check_folder(folder, model)
    loading = Loading(dtype, device, max_length, plain_chat, hide_pad)
    run = ModelRun(chosen, data_root, batch_size, limit, loading)
    for name in (model, start, reference):
        check_model(name)
    columns: dict[str, EvaluationRecord] = {}
    rows: Reference | None = None
    if reference is not None and is_evaluation(Path(reference)):
        columns[REFERENCE] = run.earlier(reference)
        rows = _reference_rows(reference, columns[REFERENCE], chosen)
        run.check(rows)
    elif reference is not None:
        run.retain().check(None)
        columns[REFERENCE] = run.retain().fresh(reference, folder / REFERENCE)
        rows = columns[REFERENCE].rows_by_group()
    else:
        run.check(None)
    if start is not None:
        earlier = is_evaluation(Path(start))
        columns[START] = run.earlier(start) if earlier else run.fresh(start, folder / START, rows)
    columns[THIS] = run.fresh(model, folder, rows)
    if start is not None:
        columns = {name: _balanced(columns[START], found) for name, found in columns.items()}
        if rank() == 0:
            write_evaluation(folder, columns[THIS])
    ordered = {name: columns[name] for name in (START, THIS, REFERENCE) if name in columns}
    if rank() == 0:
        _show(ordered, folder)
    return ordered


def folder_name(model: str) -> str:
    """The last two parts of a hub id or path, such as ``tofu--model`` for ``runs/tofu/model``."""
    parts = [part for part in Path(model).expanduser().parts if part not in ("/", ".", "..")]
    return "--".join(parts[-2:]) or "model"


def _checked(
    suites: Mapping[str, Suite] | None, batch_size: int, limit: int | None
) -> Mapping[str, Suite]:
    for name, value in (("batch_size", batch_size), ("limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"--{name}: expected at least 1, found {value}")
    if not suites:
        raise InputError("suites: expected at least one, found none")
    return suites


def _check_folder(folder: Path, model: str) -> None:
    """One folder, one model: the evaluation of another is not overwritten."""
    if any(part.exists() and not part.is_dir() for part in (folder, *folder.parents)):
        raise InputError(f"--output {folder}: expected a folder, found a file in its place")
    if (earlier := model_of(folder)) not in (None, model):
        raise InputError(
            f"--output {folder}: expected a folder for the evaluation of {model}, found one of "
            f"{earlier} in it; give another folder, or remove this one"
        )


def _reference_rows(given: str, record: EvaluationRecord, suites: Mapping[str, Suite]) -> Reference:
    rows = record.rows_by_group()
    if not any(rows.get(name) for name in suites):
        raise InputError(
            f"--reference {given}: expected rows of the suites {', '.join(suites)}, found none of "
            "these; evaluate the reference with the same suites, or give the model itself"
        )
    return rows


def _balanced(start: EvaluationRecord, record: EvaluationRecord) -> EvaluationRecord:
    return replace(record, balance=balance_figures(start, record))


def _show(columns: Mapping[str, EvaluationRecord], folder: Path) -> None:
    lacks = missing_figures(columns[THIS]) if START in columns else []
    remarks = [f"No balanced score: there is no {'; no '.join(lacks)}."] if lacks else []
    others = [name for name in (START, REFERENCE) if name in columns]
    remarks += not_common({THIS: columns[THIS]} | {name: columns[name] for name in others})
    places = {name: folder / name for name in others if (folder / name).is_dir()}
    show_evaluations(
        folder / "evaluation.html",
        columns,
        title=f"Evaluation of {columns[THIS].model}",
        remarks=remarks,
        places={"figures": folder / METRICS, "rows": folder / ROWS, **places},
    )
