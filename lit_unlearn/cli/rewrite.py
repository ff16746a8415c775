"""`lit-unlearn rewrite`: rows of any domain -> stand-alone questions, and contrastive anchors."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser
from rich.console import Console

from lit_unlearn.cli.config import Config, read_configs, take_config_args
from lit_unlearn.cli.explain import explain
from lit_unlearn.data.readers import OnBadRow
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.rewriting.backends import Backend, Rules
from lit_unlearn.rewriting.drafts import Result, Settings
from lit_unlearn.rewriting.estimate import estimate, first_asks, planned
from lit_unlearn.rewriting.journal import Journal
from lit_unlearn.rewriting.material import Material, read_material
from lit_unlearn.rewriting.output import count_table, row_counts, write_result
from lit_unlearn.rewriting.pipeline import Rewriter
from lit_unlearn.rewriting.questioner import Asker
from lit_unlearn.utils.progress import bars

_WIDTH = 140
"""Characters of a line where the output goes to a file."""


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``rewrite``, then its options.

    Raises:
        InputError: The command line, a config, data or a model cannot be used.
    """
    for name in ("local", "server"):  # so that their classes can be given by their bare names
        import_module(f"lit_unlearn.rewriting.{name}")
    files, options = take_config_args(args[1:])
    parser = _parser()
    if any(option.startswith(("-h", "--help", "--backend.help")) for option in options):
        parser.parse_args(options)
    rewrite(**_parsed(parser, read_configs(files), options))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="lit-unlearn rewrite", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options.")
    parser.add_function_arguments(rewrite)
    return parser


def _parsed(parser: ArgumentParser, config: Config, options: Sequence[str]) -> dict[str, Any]:
    """The arguments of `rewrite`.

    Raises:
        InputError: A key or value is not known or has the wrong type.
    """
    given = ["--config", json.dumps(config.values, default=str)] if config.values else []
    try:
        parsed = parser.parse_args([*given, *options])
        made = parser.instantiate_classes(parsed)
    except ArgumentError as error:
        message = explain(str(error), config, options, get_type_hints(rewrite))
        raise InputError(message) from None
    return {name: made[name] for name in signature(rewrite).parameters}


def rewrite(
    backend: Backend,
    forget: list[Source] | None = None,
    keep: list[Source] | None = None,
    output: Path = Path("runs/rewrite"),
    data_root: Path | None = None,
    on_bad_row: OnBadRow = "error",
    questions: int = 3,
    anchors: int = 2,
    passage_words: int = 150,
    lowest_rating: int = 3,
    model_checks: bool = False,
    support: float = 0.7,
    similar: float = 0.8,
    forgotten: list[str] | None = None,
    attempts: int = 3,
    fall_back: bool = True,
    dry_run: bool = False,
) -> Result | None:
    """Turn rows of any domain into stand-alone questions and answers, and make anchors.

    Writes forget.jsonl, keep.jsonl and anchors.jsonl, which `data.objectives.*.sources` of `fit`
    reads with `domain: question_answer`; rejected.jsonl with reasons; report.html and report.json.
    Every reply of the model is kept in journal.jsonl: a command that was stopped, by whatever,
    goes on where it was when it is given again.

    Args:
        backend: `Rules` needs no model; `LocalModel` is a chat model on this machine, `Server` any
            server with OpenAI's protocol (settings: --backend.help CLASS).
        forget: Rows to forget; anchors are made beside them.
        keep: Rows to keep.
        output: Folder of everything that is written.
        data_root: Folder that stands in for the hub; null reads the environment variable
            LIT_UNLEARN_DATA.
        on_bad_row: Stop at the first row that cannot be used, or skip such rows with a warning.
        questions: Most questions about a passage or a conversation.
        anchors: Anchors for each row to forget; 0 for none. By rule they are the rows to keep
            whose questions are nearest in form.
        passage_words: Longer passages are cut into parts at ends of sentences.
        lowest_rating: Passages to which the model gives less, from 1 to 5, are left out; 1 rates
            none.
        model_checks: Let the model check each question and answer as well (one call each).
        support: Share of an answer's words, beside names and numbers, that its source must have.
        similar: Share of common words from which on two questions with the same names are one.
        forgotten: Further expressions that no anchor may contain, such as the topic's name.
        attempts: How often the model is asked for a reply of the right form.
        fall_back: Make rows by rule where a model's rows of a source row were all refused.
        dry_run: Show what would be asked, or made by rule, and stop.

    Returns:
        All rows; None after a dry run.

    Raises:
        InputError: Rows, settings or a model that cannot be used.
    """
    for name, value, least, most in (
        ("questions", questions, 1, 20),
        ("anchors", anchors, 0, 20),
        ("passage_words", passage_words, 10, 100_000),
        ("lowest_rating", lowest_rating, 1, 5),
        ("support", support, 0, 1),
        ("similar", similar, 0, 1),
        ("attempts", attempts, 1, 20),
    ):
        check_number(name, value, least, most)
    if not forget and not keep:
        raise InputError("rewrite: expected sources of rows to forget or to keep, found neither")
    settings = Settings(
        *(questions, anchors, lowest_rating, model_checks, support, similar),
        *(tuple(forgotten or ()), fall_back, attempts, passage_words),
    )
    first, second = (
        read_material(sources or [], data_root, on_bad_row, passage_words, questions)
        for sources in (forget, keep)
    )
    console = Console(stderr=True)
    if isinstance(backend, Rules):
        result: Result | None = Rewriter(settings, None).run(first, second)
        if result is not None and dry_run:
            console.print(f"rules: no calls; rows: {row_counts(result)}", highlight=False)
    else:
        result = _with_model(backend, output, settings, first, second, console, dry_run)
    if result is None or dry_run:
        return None
    named = {"forget": forget or [], "keep": keep or []}
    facts = {
        "backend": backend.name,
        "sources": {part: [asdict(source) for source in own] for part, own in named.items()},
        "settings": asdict(settings),
    }
    _show(result, write_result(output, result, facts))
    return result


def _with_model(
    backend: Backend,
    folder: Path,
    settings: Settings,
    forget: Sequence[Material],
    keep: Sequence[Material],
    console: Console,
    dry_run: bool,
) -> Result | None:
    """Say what will be asked, and ask it; of a new run the first questions are timed before."""
    first = first_asks([*forget, *keep], settings)[: backend.parallel]
    with Journal(folder) as journal, bars(console) as tell:
        asker = Asker(backend, journal, settings.attempts, tell)
        if first and not asker.known() and not dry_run:
            asker.answers("first replies", first)
        told = f"{backend.name}: {estimate(planned(forget, keep, settings), asker)}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
        return None if dry_run else Rewriter(settings, asker).run(forget, keep)


def _show(result: Result, files: Sequence[Path]) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(count_table(result))
    for path in files:
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
