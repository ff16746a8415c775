"""Erase what a request names from a model, step by step, and decide whether that worked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.given_models import loading_of, start_of
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.record_files import METRICS, ROWS, read_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.evaluation.subjects import Loading, named_model
from lit_unlearn.models.finding import find_model, fingerprint, place_of
from lit_unlearn.requests.battery import battery_suites, write_battery
from lit_unlearn.requests.evidence import write_evidence
from lit_unlearn.requests.folder import RequestFolder, content_digest, read_steps
from lit_unlearn.requests.given import Given, read_given
from lit_unlearn.requests.knowledge import KNOWN_AT_MOST, knowledge
from lit_unlearn.requests.ledger import check_ledger
from lit_unlearn.requests.request import Request
from lit_unlearn.requests.rows import EARLIER, NOTES, ROW_FILES, make_rows, read_notes, write_rows
from lit_unlearn.requests.run_config import run_config, teacher_path
from lit_unlearn.requests.salt import check_salt
from lit_unlearn.requests.steps import Steps
from lit_unlearn.requests.thresholds import checks, verdict_of
from lit_unlearn.requests.verdict import (
    Judged,
    check_figures,
    default_thresholds,
    teacher_notes,
    write_verdict,
)
from lit_unlearn.rewriting.rewrite import Foresee
from lit_unlearn.sweeping.jobs import LOG, Job, check_fits, run_jobs
from lit_unlearn.training.setup.settled import read_gate
from lit_unlearn.training.setup.start import STORE
from lit_unlearn.utils.digests import json_digest
from lit_unlearn.utils.locks import take_lock
from lit_unlearn.utils.ownership import check_reads, check_targets, free_name, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.progress import duration
from lit_unlearn.utils.tables import table

__all__ = ["LOADING", "Erased", "Forecasts", "erase"]

LOADING = Loading(dtype="auto")
"""Settings of the models in both evaluations."""
_STEPS = 4
_RESULT = "model/config.json"


@dataclass(frozen=True)
class Forecasts:
    """Functions that say what a step will take; by default nothing is said."""

    writing: Foresee | None = None
    """See `rewrite`."""
    measuring: Callable[[str, Mapping[str, Suite], Path], float] | None = None
    """Returns the seconds of an evaluation of a model by suites; the path is that of its folder."""


_SILENT = Forecasts()


@dataclass(frozen=True)
class Erased:
    """Result of `erase`."""

    judged: Judged
    folder: RequestFolder
    before: EvaluationRecord
    after: EvaluationRecord | None = None
    """Evaluation of the model after unlearning; None if there was nothing to forget."""


def erase(
    request: Request,
    recipe: Mapping[str, Any],
    *,
    output: str | Path | None = None,
    text: str | None = None,
    console: Console | None = None,
    forecasts: Forecasts = _SILENT,
) -> Erased:
    """Make a model forget what a request names, and decide by measurements whether it did.

    Every step is written down in ``steps.jsonl`` of the output folder. The same call goes on with a
    stopped request. A step whose inputs have changed begins anew; its earlier results are kept
    under another name.

    Args:
        request: The request.
        recipe: Values of a config for `fit`, such as those of ``configs/erase.yaml``; the request
            replaces its rows, model and folder.
        output: Folder for everything; None takes ``runs/erase/<id>``.
        text: Text of the request's file, for the copy in the folder; None writes the request out.
        console: Console for the progress; None shows nothing.
        forecasts: Functions that say what a step will take.

    Returns:
        The verdict, and the evaluations that led to it.

    Raises:
        InputError: The request cannot be carried out; nothing is loaded before that is known.
    """
    folder = RequestFolder(local_path(output or f"runs/erase/{request.id}"))
    models = {"model": request.model, "writer": request.writer, "teacher": request.teacher}
    for parameter, path in models.items():
        if path is not None:
            with named_model(parameter):
                find_model(path)
    _check_places(request, folder)
    given = read_given(request, folder.rewriting)
    work = _Work(request, recipe, folder, given, console or Console(quiet=True), forecasts)
    work.configured()  # refused before the folder is made
    lock = take_lock(folder.root / ".lock", "erase")
    try:
        return work.run(text or yaml.safe_dump(asdict(request), sort_keys=False))
    except InputError as error:
        inside = rf"(?<![\w./-]){re.escape(str(folder.root))}/"
        if lock.made and not work.keeps and not re.search(inside, str(error)):
            with suppress(OSError):
                folder.remove()
        raise
    finally:
        lock.release()


def _check_places(request: Request, folder: RequestFolder) -> None:
    """Check before anything is loaded that no file of the user will be replaced or moved."""
    rows = [*request.forget.rows, *request.keep.neighbors, *request.keep.general]
    models = (request.model, request.writer, request.teacher)
    reads = [place_of(path) for path in models if path]
    reads += [Path(source.path) for source in rows]
    reads += [local_path(each) for each in request.earlier or ()]
    reads = list(filter(Path.exists, reads))
    if request.ledger is not None:
        check_ledger(request.ledger, request.id, folder.root)
        reads.append(local_path(request.ledger))
    check_reads(folder.root, folder.moved, reads, "--output")
    later = [] if "after" in read_steps(folder.root) else _record(folder.after)
    check_targets(folder.root, [*folder.targets, *later], reads, "--output")
    check_salt(folder.root)


@dataclass
class _Work:
    """Steps of one call of `erase`."""

    request: Request
    recipe: Mapping[str, Any]
    folder: RequestFolder
    given: Given
    console: Console
    forecasts: Forecasts
    keeps: bool = field(default=False, init=False)
    """Whether the folder of a refused request stays, as a model has worked for it."""
    _expected: Sequence[float] = field(default=(), init=False)
    """Seconds of the training, if they are known."""
    _teacher: str = field(default="", init=False)
    """Model that is the teacher, if it is not the start model."""

    def __post_init__(self) -> None:
        self._teacher = self.request.teacher or self.given.earlier.start

    def run(self, text: str) -> Erased:
        """Do all steps, and return the verdict; `text` is that of the request's file."""
        folder, request, given = self.folder, self.request, self.given
        self._configure()
        steps = Steps(folder, self.console, _STEPS)
        notes = [*self._make_rows(steps)]
        config = self._configure()  # again, with the rows of earlier requests, if any join
        teacher = teacher_path(config)  # that of the recipe, if it names one
        if given.earlier.ids and not request.teacher and teacher in ("", given.earlier.start):
            notes.append(given.earlier.about_teacher)
        self._teacher = teacher or ""
        suites = battery_suites(folder.battery)
        check_figures(request.thresholds, suites)
        key = fingerprint(request.model)
        settings = [self.recipe, config["model"]["student"], request.seed]
        settings += [request.earlier_share] if EARLIER in config["model"]["objectives"] else []
        settings += [fingerprint(self._teacher)] if self._teacher else []
        trained = {
            "model": key,
            "rows": content_digest(folder.rows),
            "recipe": json_digest(settings),
        }
        if steps.is_due("train", trained, [folder.model]):
            self._foresee(suites)
        self.keeps = True
        _write_changed(folder.request, text)  # not before all checks: it is evidence
        asked = {"model": key, "battery": content_digest(folder.battery)}
        first = partial(self._before, suites)
        steps.do("before", "what the model knows", asked, _record(folder.before), first)
        before = read_evaluation(folder.before)
        known = knowledge(before)
        if not known.value > KNOWN_AT_MOST:
            return self._finish(Judged("nothing to forget", known, (), notes), before)
        steps.do("train", "unlearning", trained, [folder.model], self._train)
        again = asked | {
            "model": fingerprint(str(folder.model)),
            "before": content_digest(folder.before / METRICS),
        }
        second = partial(self._after, suites)
        steps.do("after", "what the result knows", again, _record(folder.after), second)
        after = read_evaluation(folder.after)
        found = checks(request.thresholds or default_thresholds(before), after, before)
        verdict = verdict_of(found)
        if verdict == "not met":
            notes += teacher_notes(read_gate(folder.run / STORE))
        return self._finish(Judged(verdict, known, found, notes), before, after)

    def configured(self) -> dict[str, Any]:
        """Return the config of the training."""
        return run_config(self.recipe, self.request, self.folder, self._teacher)

    def _configure(self) -> dict[str, Any]:
        """Write the config of the training, and return it."""
        config = self.configured()
        write_text(self.folder.config, yaml.safe_dump(config, sort_keys=False))
        return config

    def _make_rows(self, steps: Steps) -> Sequence[str]:
        """Make rows and battery; return the notes about them."""
        request, folder, given = self.request, self.folder, self.given
        writer = request.writer and fingerprint(request.writer)
        if writer and not (folder.rows / NOTES).is_file():
            self._check_recipe()  # before the writer is loaded
        settings = [request.forget.subject, request.seed, writer, len(given.neighbors)]
        inputs = {"given": given.digest, "settings": json_digest(settings)}

        def make() -> None:
            self.keeps = writer is not None
            made = make_rows(request, given, folder.rewriting, self.console, self.forecasts.writing)
            write_rows(folder.rows, made)
            write_battery(folder.battery, made.battery)

        steps.do("rows", "rows and battery", inputs, [folder.rows, folder.battery], make)
        return read_notes(folder.rows)

    # ------------------------------------------------------------------------------- the steps

    @property
    def _job(self) -> Job:
        folder = self.folder
        names = ROW_FILES + (EARLIER,) * (folder.rows / f"{EARLIER}.jsonl").is_file()
        rows = tuple(folder.rows / f"{name}.jsonl" for name in names)
        return Job("training", folder.run, ("fit", "--config", str(folder.config)), _RESULT, rows)

    def _check_recipe(self) -> list[float]:
        """Check that `fit` accepts the recipe; errors name it, not the config made from it."""
        try:
            return check_fits([self._job])
        except InputError as error:
            file = rf"{re.escape(str(self.folder.config))}(:\d+)?: "
            raise InputError(re.sub(file, "recipe: ", str(error))) from None

    def _foresee(self, suites: Mapping[str, Suite]) -> None:
        """Check that `fit` accepts the run, and say how long everything takes."""
        if self._teacher:
            self.console.print(f"Teacher: {self._teacher}", style="dim")
        self.console.print("Checking the recipe", style="dim")
        self._expected = self._check_recipe()
        measuring = self.forecasts.measuring or (lambda *_: 0.0)
        parts = {
            "what the model knows": measuring(self.request.model, suites, self.folder.before),
            "unlearning": sum(self._expected[:1]),
            "what the result knows": measuring(self.request.model, suites, self.folder.after),
        }
        if sum(parts.values()):
            lines = [
                (name, duration(s) if s else "seconds, or unknown") for name, s in parts.items()
            ]
            lines.append(("all", duration(sum(parts.values()))))
            self.console.print(table("Expected time, at most", ("step", "about"), lines))

    def _before(self, suites: Mapping[str, Suite]) -> None:
        start = start_of(self.request.model, loading_of(self.request.model, LOADING))
        named = {name: suite.with_start(start) for name, suite in suites.items()}
        evaluate(self.request.model, named, output=self.folder.before, loading=LOADING)

    def _train(self) -> None:
        if torch.cuda.is_initialized():  # the process of the training needs the memory
            torch.cuda.empty_cache()
        failures = run_jobs([self._job], console=self.console, expected=self._expected)
        if failures:
            log = self.folder.run / LOG
            raise InputError(f"Training failed: {failures[0].reason} (all output: {log})")

    def _after(self, suites: Mapping[str, Suite]) -> None:
        model, start = str(self.folder.model), self.folder.before
        evaluate(model, suites, start=start, output=self.folder.after, loading=LOADING)

    def _finish(
        self, judged: Judged, before: EvaluationRecord, after: EvaluationRecord | None = None
    ) -> Erased:
        write_verdict(self.folder.verdict, self.request.id, self.request.model, judged)
        write_evidence(self.folder.root, self.request.ledger)
        return Erased(judged, self.folder, before, after)


def _record(folder: Path) -> list[Path]:
    """Return the files of an evaluation's record."""
    return [folder / METRICS, folder / ROWS]


def _write_changed(file: Path, text: str) -> None:
    """Write a file; an earlier one with another text is kept under a free name."""
    if file.is_file() and file.read_text("utf-8") != text:
        file.rename(free_name(file))
    write_text(file, text)
