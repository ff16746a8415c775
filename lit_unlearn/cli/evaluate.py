"""`lit-unlearn evaluate`: run suites on a model, its start model and a reference."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser

from lit_unlearn.cli.classes import load_classes
from lit_unlearn.cli.config import read_configs, take_config_args
from lit_unlearn.cli.forecasts import print_forecast
from lit_unlearn.cli.parsing import ExamplesFormatter, arguments, asks_for_help, make_parser, parse
from lit_unlearn.cli.suite_names import choose_suites, known_suites, suite_lines
from lit_unlearn.data.contexts import Front
from lit_unlearn.distributed.ranks import processes, rank
from lit_unlearn.evaluation.conditions import condition_of, measurable
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.given_models import is_record, loading_of
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.planning.commands import evaluation_forecast
from lit_unlearn.planning.phases import Forecast
from lit_unlearn.report.evaluation_show import show_evaluation, shown_files
from lit_unlearn.utils.options import take_options
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path

__all__ = ["Options", "folder_name", "main"]


@dataclass
class Options:
    """Run suites on a model, and write a table, metrics.json, rows.jsonl and evaluation.html.

    Outcomes are stored in the output folder: the same command resumes a stopped evaluation, and
    after adding a suite only that suite is run.

    Args:
        model: Hub id, local folder, .gguf file, or `random-tiny`.
        suites: Suites and their settings by displayed name (in a config); `--suite NAME` selects
            one with its defaults.
        reference: A model that was never trained on the forget rows (retain model), the folder of
            an earlier evaluation of it, or its log: TOFU_EVAL.json of open-unlearning, or
            eval_log_aggregated.json of the TOFU authors. Some figures need it.
        start: The model before unlearning, or the folder of an earlier evaluation of it. The
            balanced score needs it.
        data_root: Folder that is read instead of the hub; null reads the environment variable
            LIT_UNLEARN_DATA.
        output: Output folder; null takes runs/evaluate/<model>.
        context: What stands in front of the model: a context before every question (Echo, Intent,
            ...), EnsembleTeacher (each row under its own objective's context), or PromptGuard.
        batch_size: Probes per forward pass; figures do not depend on it.
        limit: Largest number of rows of each group of each suite, evenly spread; null for all.
    """

    model: str
    suites: dict[str, Suite] | None = None
    reference: str | None = None
    start: str | None = None
    data_root: Path | None = None
    output: Path | None = None
    context: Front | None = None
    batch_size: int = 16
    limit: int | None = None


def main(args: list[str]) -> None:
    """Run the command."""
    files, rest = take_config_args(args[1:])
    suites, others = take_options(rest, lambda name: name == "--suite")
    config = read_configs(files)
    if not asks_for_help(others):
        config = choose_suites(config, [name for _, name in suites])
    given = parse(_parser(), others, config)
    options, loading = Options(**arguments(Options, given)), Loading(**arguments(Loading, given))
    under = "" if options.context is None else f"--{type(options.context).__name__}"
    folder = local_path(options.output or f"runs/evaluate/{folder_name(options.model)}{under}")
    check_targets(folder, shown_files(folder, options.suites or {}), [], "--output")
    with processes():
        settled = {**vars(options), "suites": options.suites or {}, "output": folder}
        foresee = partial(print_forecast, partial(_forecast, options, loading, folder))
        found = evaluate(**settled, loading=loading, foresee=foresee)
        if rank() == 0:
            show_evaluation(found, folder)


def _forecast(options: Options, loading: Loading, folder: Path) -> Forecast | None:
    """Return the forecast for all models that are not given as earlier evaluations."""
    given = {"reference": options.reference, "start": options.start, "model": options.model}
    models = {
        heading: (path, folder if heading == "model" else folder / heading)
        for heading, path in given.items()
        if path is not None and not is_record(path, heading)
    }
    context, suites = options.context, options.suites or {}
    condition = None if context is None else condition_of(context, options.data_root)
    return evaluation_forecast(
        models,
        suites if condition is None else measurable(suites)[0],
        loading_of(options.model, loading),
        data_root=options.data_root,
        limit=options.limit,
        batch_size=options.batch_size,
        condition=condition,
    )


def folder_name(model: str) -> str:
    """Return the last two parts of a hub id or path: ``tofu--model`` for ``runs/tofu/model``."""
    parts = [part for part in local_path(model).parts if part not in ("/", ".", "..")]
    return "--".join(parts[-2:]) or "model"


def _parser() -> ArgumentParser:
    load_classes("lit_unlearn.evaluation.conditions")
    known = known_suites()  # loads them, so that each can be named without its module
    parser = make_parser(
        "evaluate",
        formatter_class=ExamplesFormatter,
        epilog=f"suites (settings: --suites.help CLASS):\n{suite_lines(known)}",
    )
    parser.add_argument("--config", action="config", help="YAML file with suites and options.")
    parser.add_argument(
        "--suite", metavar="NAME", help="Suite to run; repeat the option for several suites."
    )
    parser.add_class_arguments(Options, as_positional=True)
    parser.add_class_arguments(Loading)
    return parser
