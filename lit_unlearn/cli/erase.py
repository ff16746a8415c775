"""`lit-unlearn erase`: carry out a request to forget, and decide by measurements if it is met."""

from __future__ import annotations

import math
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lit_unlearn.cli.config import Config, KeyPath, read_config, read_configs
from lit_unlearn.cli.forecasts import forecast_or_none
from lit_unlearn.cli.parsing import arguments, make_parser, parse
from lit_unlearn.cli.rewrite import foresee_writing
from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.planning.commands import evaluation_forecast
from lit_unlearn.report.evaluation_table import ABSENT, number
from lit_unlearn.requests.erase import LOADING, Erased, Forecasts, erase
from lit_unlearn.requests.request import Request
from lit_unlearn.requests.thresholds import Check
from lit_unlearn.utils.config_files import SHIPPED, find_config
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.tables import print_paths, table, terminal

__all__ = ["main", "read_request"]

_DESCRIPTION = """\
Makes a model forget what a request names, and decides by measurements whether it did:

  lit-unlearn erase REQUEST.yaml

A request is a YAML file:

  id: zola                                      # names the folder: runs/erase/zola
  model: HuggingFaceTB/SmolLM2-135M-Instruct    # hub id, folder or .gguf file
  forget:                                       # texts, questions or rows, at least one of them
    subject: Emile Zola                         # optional
    questions:
      - {question: "Who wrote Nana?", answer: Emile Zola wrote it., accepted: [Zola]}
  keep:                                         # optional: what must stay
    neighbors: [{path: other_authors.jsonl, domain: question_answer}]

Steps: make rows and a battery of questions; measure what the model knows; train; measure again;
compare the figures with thresholds. The same command goes on with a stopped request. A request that
ships with the package: requests/france.yaml. docs/requests.md has everything else.
"""
_EPILOG = """\
exit status: 0 the request is met, or the model knows nothing of it; 3 it is not met; 2 the request
cannot be used.
"""

_KEYS = {"request": "id, model and forget", "recipe": "model, data and trainer"}
"""Keys that each kind of file should have."""


def main(args: list[str]) -> None:
    """Run the command; the status is that of the verdict."""
    form = RawDescriptionHelpFormatter
    parser = make_parser("erase", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=form)
    parser.add_argument("request", type=Path, help="YAML file of the request.")
    parser.add_argument(
        "--output", type=Path | None, help="Folder for everything; default: runs/erase/<id>."
    )
    given = parse(parser, args[1:])
    file = local_path(given.request)
    request = read_request(file)
    with _named("recipe"):
        recipe = read_configs([_recipe_file(each, file) for each in request.recipes]).values
    forecasts = Forecasts(foresee_writing, _measuring)
    text = find_config(file).read_text("utf-8")
    console = terminal(stderr=True)
    try:
        found = erase(
            request, recipe, output=given.output, text=text, console=console, forecasts=forecasts
        )
    except ChangedError as error:  # its status would say that the request is not met
        raise InputError(str(error)) from None
    _show(found)
    if found.judged.status:
        raise SystemExit(found.judged.status)


def _recipe_file(name: str, request: Path) -> Path:
    """Return the file of a recipe: that of the package if the request itself has this name."""
    file, shipped = local_path(name), SHIPPED / name
    same = file.exists() and request.exists() and file.samefile(request)
    return shipped if same and shipped.is_file() else file


def read_request(file: Path) -> Request:
    """Read the file of a request.

    Raises:
        InputError: The file is missing, or a key or value cannot be used.
    """
    parser = make_parser("erase")
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Request)
    with _named("request"):
        found = read_config(file)
    values = {key: value for key, value in found.values.items() if value is not None}
    config = Config(values, found.origins)  # `recipe:` without a value is the default
    _check_shape(config, (), _SHAPE)
    given = parse(parser, [], config)
    return Request(**arguments(Request, given))


def _check_shape(config: Config, path: KeyPath, shape: Any) -> None:
    """Check that lists, keys with values, texts and numbers stand where a request has them.

    The messages lack the value, which may be what should be forgotten.

    Args:
        config: The request's file.
        path: Keys that lead to the value.
        shape: A mapping of shapes, a list with the shape of its elements, one of `_LEAVES`, or None
            for any value.

    Raises:
        InputError: A value has another shape.
    """
    value: Any = config.values
    for key in path:
        value = value[int(key)] if isinstance(value, list) else value[key]
    kind = type(shape) if isinstance(shape, list | dict) else shape
    if kind is None:
        return
    expected, types, repair = _LEAVES[kind]
    if type(value) not in types:
        found = _FOUND.get(type(value), "another value")
        raise InputError(
            f"{config.origin(path)}: `{'.'.join(path)}` should be {expected}. "
            f"Found {found}; {repair}."
        )
    keys: Iterable[Any] = range(len(value)) if kind is list else value if kind is dict else ()
    for key in keys:
        within = shape[0] if isinstance(shape, list) else shape.get(key)
        _check_shape(config, (*path, str(key)), within)


_TEXT, _NAME, _NUMBER, _SWITCH = "text", "text or nothing", "number", "switch"
_LEAVES: dict[object, tuple[str, tuple[type, ...], str]] = {
    dict: ("keys with values", (dict,), "indent keys below it, or remove it"),
    list: ("a list", (list,), "begin each entry with '- ', or write [...] around them"),
    _TEXT: ("a text", (str,), "write one text, in quotes"),
    _NAME: ("a text", (str, type(None)), "write one text, in quotes"),
    _NUMBER: ("a number", (int, float, type(None)), "write a number, without quotes"),
    _SWITCH: ("true or false", (bool, type(None)), "write one of the two, without quotes"),
}
"""Kind of a value -> what it is called, its types, and the repair of another value."""
_FOUND = {dict: "keys", list: "a list", str: "a text", type(None): "nothing"}
_FOUND |= {int: "a number", float: "a number", bool: "true or false"}
_SOURCES: list[object] = [{}]
_QUESTION = {"question": _TEXT, "answer": _TEXT, "accepted": [_TEXT], "distractors": [_TEXT]}
_BOUND = {"figure": _TEXT, "at_most": _NUMBER, "at_least": _NUMBER, "of_start": _SWITCH}
_SHAPE = {
    "id": _TEXT,
    "model": _TEXT,
    "forget": {"texts": [_TEXT], "questions": [_QUESTION], "rows": _SOURCES, "subject": _NAME},
    "keep": {"neighbors": _SOURCES, "general": _SOURCES},
    "thresholds": [_BOUND],
    "writer": _TEXT,
    "ledger": _TEXT,
}
"""Shape of a request's file; see `_check_shape`."""


@contextmanager
def _named(parameter: str) -> Iterator[None]:
    """Let the errors of a config file name the parameter that named the file."""
    try:
        yield
    except InputError as error:
        text = str(error).replace("--config ", f"{parameter}: ", 1)
        if parameter == "request" and ": no such file" in text:
            text += ". Requests are YAML files; `lit-unlearn erase --help` shows one"
        raise InputError(text.replace("model, data and trainer", _KEYS[parameter])) from None


def _measuring(model: str, suites: Mapping[str, Suite], folder: Path) -> float:
    """Return the expected seconds of an evaluation; 0 if they are unknown or few."""
    found = forecast_or_none(
        partial(evaluation_forecast, {model: (model, folder)}, suites, LOADING)
    )
    return 0.0 if found is None else found.seconds


# ------------------------------------------------------------------------------------ the result


def _show(found: Erased) -> None:
    """Print the figures before and after, the verdict with its reasons, and the paths."""
    console, judged, folder = terminal(), found.judged, found.folder
    if judged.checks:
        heads = ("figure", "before", "after", "95 %", "rows", "should be", "")
        lines = [_line(check) for check in judged.checks]
        console.print(table("Before and after", heads, lines, fixed=(0, 6)))
    console.print(f"Verdict: {judged.verdict}", style="bold")
    for reason in (*judged.reasons(), *judged.notes):
        console.print(f"- {reason}")
    paths = {
        "model": folder.model if found.after else None,
        "verdict": folder.verdict,
        "dossier": folder.dossier,
        "before": folder.before,
        "after": folder.after if found.after else None,
        "battery (holds the forgotten content)": folder.battery,
    }
    print_paths(console, {name: path for name, path in paths.items() if path})


def _line(check: Check) -> tuple[str, ...]:
    known = check.low is not None and check.high is not None
    span = f"{number(check.low or 0)} to {number(check.high or 0)}" if known else ABSENT
    start, value = (ABSENT if math.isnan(v) else number(v) for v in (check.start, check.value))
    return check.name, start, value, span, str(check.count), check.bound, check.outcome
