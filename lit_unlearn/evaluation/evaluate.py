"""Run suites on a model and, for comparison, on its start model and a retain model."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from lit_unlearn.distributed.ranks import on_first, rank
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.balancing import balance_figures, missing_figures
from lit_unlearn.evaluation.compare import not_common
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Figure, Reference, Start, Subject, Suite
from lit_unlearn.evaluation.record_files import (
    evaluation_files,
    is_evaluation,
    model_of,
    read_evaluation,
    write_evaluation,
)
from lit_unlearn.evaluation.records import EvaluationRecord, versions
from lit_unlearn.evaluation.subjects import (
    Loading,
    device_named,
    load_subject,
    named_model,
    path_and_dtype,
    subject_of,
)
from lit_unlearn.evaluation.suite_run import check_suites, run_suites
from lit_unlearn.models.dtypes import resolve_dtype
from lit_unlearn.models.finding import find_model
from lit_unlearn.utils.chat_template import recorded_template
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path

__all__ = ["Evaluation", "Model", "evaluate", "loading_of", "start_of"]

MODEL, START, REFERENCE = "model", "start", "reference"
"""Headings of the records; the last two also name the folders of these models."""

Model = str | Path | tuple[nn.Module, PreTrainedTokenizerBase]
"""Hub id, local folder, .gguf file or `random-tiny`; or a loaded model and its tokenizer."""


@dataclass(frozen=True)
class Evaluation:
    """The records of one call of `evaluate`."""

    records: Mapping[str, EvaluationRecord]
    """`start` (if given), `model` and `reference` (if given), in this order."""
    remarks: Sequence[str]
    """Sentences about a missing balanced score, and about rows and settings that differ."""
    folder: Path | None
    """Folder of the files; None if nothing was written."""

    @property
    def balance(self) -> Sequence[Figure]:
        """The balanced score of the model and its parts; empty without a start or any part."""
        return self.records[MODEL].balance


def evaluate(
    model: Model,
    suites: Suite | Sequence[Suite] | Mapping[str, Suite],
    *,
    start: Model | None = None,
    reference: Model | None = None,
    output: str | Path | None = None,
    data_root: Path | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    loading: Loading | None = None,
    foresee: Callable[[], object] | None = None,
) -> Evaluation:
    """Run suites on a model.

    With an output folder, outcomes are stored at once: the same call resumes a stopped evaluation,
    and a call with a further suite runs only that suite. Under `torchrun` the rows are divided
    among the processes; all make the same call and get the same result.

    Args:
        model: Hub id, local folder, .gguf file or `random-tiny`; or a loaded model and its
            tokenizer, in a tuple.
        suites: One suite, a sequence of suites with different names, or a mapping from displayed
            name to suite.
        start: The model before unlearning, or the folder of an earlier evaluation of it; needed
            for the balanced score.
        reference: A model that never saw the forgotten data (retain model), or the folder of an
            earlier evaluation of it; needed for some figures.
        output: Folder for ``metrics.json``, ``rows.jsonl`` and the stored outcomes, with a
            subfolder each for start and reference; None writes nothing.
        data_root: Folder that replaces the hub; None reads the environment variable
            LIT_UNLEARN_DATA.
        batch_size: Probes per forward pass; figures do not depend on it.
        limit: Maximum number of rows in each group of each suite, spread evenly; None for all.
        loading: Settings of the models, None for the defaults. A model that is already loaded keeps
            its `dtype` and `device`.
        foresee: Function that the first process calls before a model is loaded; None for none.

    Returns:
        The records of all models, with the balanced score.

    Raises:
        InputError: A model, rows or settings cannot be used.

    Example::

        from lit_unlearn.evaluation.evaluate import evaluate
        from lit_unlearn.evaluation.suites.boundary import Boundary

        found = evaluate("runs/mine/model", Boundary(), start="random-tiny", output="runs/eval")
        for figure in found.records["model"].suites["boundary"].figures:
            print(figure.name, figure.value, figure.unit)
    """
    check_number("batch_size", batch_size, 1)
    check_number("limit", limit, 1)
    folder = None if output is None else local_path(output)
    for given in (model, start, reference):
        _check_model(given, stored=given is not model)
    if folder is not None:
        models = {MODEL: model, START: start, REFERENCE: reference}
        on_first(partial(_check_folder, folder, _name(model), models))
    if foresee is not None and rank() == 0:
        foresee()
    settings = loading_of(model, loading)
    named = _by_name(suites)
    if start is not None:
        beside = start_of(start, settings)
        named = {name: suite.with_start(beside) for name, suite in named.items()}
    plain = _Run(named, data_root, batch_size, limit, settings, folder)
    records: dict[str, EvaluationRecord] = {}
    rows: Mapping[str, Reference] | None = None
    if reference is not None:
        alone = {name: suite.without_reference() for name, suite in plain.suites.items()}
        records[REFERENCE] = replace(plain, suites=alone).record(reference, REFERENCE)
        rows = _rows(reference, records[REFERENCE], plain.suites)
    if reference is None or is_evaluation(reference):
        check_suites(plain.suites, data_root, rows, limit)
    if start is not None:
        records[START] = plain.record(start, START, rows)
    records[MODEL] = plain.fresh(model, folder, rows, records.get(START), records.get(REFERENCE))
    ordered = {name: records[name] for name in (START, MODEL, REFERENCE) if name in records}
    lacks = [] if start is None else missing_figures(records[MODEL])
    remarks = [f"No balanced score: there is no {'; no '.join(lacks)}."] if lacks else []
    remarks += not_common({MODEL: records[MODEL]} | ordered)
    return Evaluation(ordered, remarks, folder)


def _by_name(suites: Suite | Sequence[Suite] | Mapping[str, Suite]) -> Mapping[str, Suite]:
    if isinstance(suites, Mapping):
        named = suites
    else:
        given = [suites] if isinstance(suites, Suite) else suites
        named = {suite.name: suite for suite in given}
        if len(named) < len(given):
            raise InputError(
                "Parameter `suites` should hold suites with different names. Found a name twice; "
                "give a mapping from names to suites."
            )
    if not named:
        raise InputError("Parameter `suites` should hold at least one suite. Found none.")
    return named


@dataclass(frozen=True)
class _Run:
    """Settings that all models of one call share."""

    suites: Mapping[str, Suite]
    data_root: Path | None
    batch_size: int
    limit: int | None
    loading: Loading
    folder: Path | None

    def record(
        self, model: Model, heading: str, reference: Mapping[str, Reference] | None = None
    ) -> EvaluationRecord:
        """Read these suites of an earlier evaluation, or evaluate the start or reference model."""
        if isinstance(model, str | Path) and is_evaluation(model):
            record = read_evaluation(local_path(model))
            kept = {name: suite for name, suite in record.suites.items() if name in self.suites}
            return replace(record, suites=kept)
        if heading == REFERENCE:
            check_suites(self.suites, self.data_root, None, self.limit)
        return self.fresh(model, None if self.folder is None else self.folder / heading, reference)

    def fresh(
        self,
        model: Model,
        folder: Path | None,
        reference: Mapping[str, Reference] | None,
        start: EvaluationRecord | None = None,
        never: EvaluationRecord | None = None,
    ) -> EvaluationRecord:
        """Evaluate a model and write the record."""
        subject = _subject(model, self.loading)
        store = None if folder is None else Store(folder / "store")
        asked = (self.suites, subject, store, self.data_root, reference)
        found = run_suites(*asked, batch_size=self.batch_size, limit=self.limit)
        template = asdict(subject.encoder.template)
        settings = {**asdict(self.loading), "limit": self.limit, "template": template}
        del settings["device"]
        record = EvaluationRecord(subject.name, subject.fingerprint, found, settings, versions())
        if start is not None:
            record = replace(record, balance=balance_figures(start, record, never))
        if folder is not None and rank() == 0:
            write_evaluation(folder, record)
        return record


def loading_of(model: Model, loading: Loading | None = None) -> Loading:
    """Return the settings of all models; by default the template recorded with the model."""
    loading = loading or Loading()
    if loading.template is not None:
        return loading
    if isinstance(model, tuple):
        return replace(loading, template=recorded_template(model[1].init_kwargs))
    config = Path(find_model(str(model)).name) / "tokenizer_config.json"
    try:
        known = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):  # missing, or damaged: loading reports it
        return loading
    recorded = recorded_template(known) if isinstance(known, dict) else None
    return replace(loading, template=recorded)


def start_of(model: Model, loading: Loading) -> Start:
    """Return the start model for suites that read it; for an evaluation, the evaluated model."""
    if isinstance(model, tuple):
        load = cache(partial(_subject, model, loading))
        return Start(_name(model), lambda: load().fingerprint, load)
    path = read_evaluation(local_path(model)).model if is_evaluation(model) else str(model)

    def key() -> str:
        dtype = resolve_dtype(loading.dtype, device_named(loading.device))
        with named_model("start"):
            return path_and_dtype(path, None, dtype)

    return Start(path, cache(key), cache(partial(_subject, path, loading)))


def _subject(model: Model, loading: Loading) -> Subject:
    if isinstance(model, tuple):
        return subject_of(*model, _name(model), loading)
    return load_subject(str(model), loading)


def _name(model: Model) -> str:
    """Return the name of a model in records: its path, or its class if it is already loaded."""
    return type(model[0]).__name__ if isinstance(model, tuple) else str(model)


def _check_model(model: Model | None, *, stored: bool = True) -> None:
    """Check that a model exists; with `stored`, the folder of an evaluation will do."""
    if isinstance(model, str | Path) and not (stored and is_evaluation(model)):
        with named_model():
            find_model(str(model))


def _check_folder(folder: Path, model: str, models: Mapping[str, Model | None]) -> None:
    """Refuse to overwrite another model's evaluation, a user's file, or an input."""
    if (earlier := model_of(folder)) not in (None, model):
        raise InputError(
            f"Parameter `output` = '{folder}' should be a folder for the evaluation of {model}. "
            f"Found an evaluation of {earlier}; give another folder, or remove this one."
        )
    paths = {
        name: local_path(each) for name, each in models.items() if isinstance(each, str | Path)
    }
    fresh = [name for name, path in paths.items() if name == MODEL or not is_evaluation(path)]
    folders = [folder if name == MODEL else folder / name for name in fresh]
    targets = [file for each in folders for file in evaluation_files(each)]
    read = [
        path if is_evaluation(path) else Path(find_model(str(path)).name) for path in paths.values()
    ]
    check_targets(folder, targets, [path for path in read if path.exists()], "--output")


def _rows(
    given: Model, record: EvaluationRecord, suites: Mapping[str, Suite]
) -> Mapping[str, Reference]:
    rows = record.rows_by_group()
    if is_evaluation(given) and not any(rows.get(name) for name in suites):
        raise InputError(
            f"Parameter `reference` = '{given}' should hold rows of {', '.join(suites)}. Found "
            "none; evaluate the reference with the same suites, or give the model itself."
        )
    return rows
