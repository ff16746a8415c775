"""Run suites on a model and, for comparison, on its start model and a retain model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from lit_unlearn.data.contexts import Front
from lit_unlearn.distributed.ranks import on_first, rank
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.balancing import balance_figures, missing_figures
from lit_unlearn.evaluation.compare import not_common
from lit_unlearn.evaluation.conditions import (
    Condition,
    behind,
    condition_of,
    measurable,
    name_behind,
)
from lit_unlearn.evaluation.given_models import (
    MODEL,
    REFERENCE,
    START,
    Model,
    check_folder,
    check_model,
    is_record,
    loading_of,
    name_of,
    rows_of,
    start_of,
    subject_from,
)
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Figure, Reference, Suite
from lit_unlearn.evaluation.published_logs import informed, is_log, log_record
from lit_unlearn.evaluation.record_files import is_evaluation, read_evaluation, write_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord, versions
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.evaluation.suite_run import check_suites, run_suites
from lit_unlearn.utils.paths import local_path

__all__ = ["Evaluation", "evaluate"]


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
    context: Front | None = None,
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
            earlier evaluation of it, or its log of open-unlearning or of the TOFU authors; needed
            for some figures.
        output: Folder for ``metrics.json``, ``rows.jsonl`` and the stored outcomes, with a
            subfolder each for start and reference; None writes nothing.
        data_root: Folder that replaces the hub; None reads the environment variable
            LIT_UNLEARN_DATA.
        batch_size: Probes per forward pass; figures do not depend on it.
        limit: Maximum number of rows in each group of each suite, spread evenly; None for all.
        loading: Settings of the models, None for the defaults. A model that is already loaded keeps
            its `dtype` and `device`.
        context: Context or guard in front of `model`, not of start and reference. Suites that read
            or optimise the model itself are then left out.
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
    condition = None if context is None else condition_of(context, data_root)
    models = {MODEL: model, START: start, REFERENCE: reference}
    for heading, given in models.items():
        check_model(given, heading)
    if folder is not None:
        on_first(partial(check_folder, folder, name_behind(condition, name_of(model)), models))
    if foresee is not None and rank() == 0:
        foresee()
    settings = loading_of(model, loading)
    named, left_out = _informed(_by_name(suites), condition, start, reference, settings)
    plain = _Run(named, data_root, batch_size, limit, settings, folder)
    under = replace(plain, condition=condition)
    records: dict[str, EvaluationRecord] = {}
    rows: Mapping[str, Reference] | None = None
    if reference is not None:
        alone = {name: suite.without_reference() for name, suite in plain.suites.items()}
        records[REFERENCE] = replace(plain, suites=alone).record(reference, REFERENCE)
        rows = rows_of(reference, records[REFERENCE], plain.suites)
    if reference is None or is_record(reference, REFERENCE):
        check_suites(plain.suites, data_root, rows, limit)
    if start is not None:
        records[START] = plain.record(start, START, rows)
    records[MODEL] = under.fresh(model, folder, rows, records.get(START), records.get(REFERENCE))
    ordered = {name: records[name] for name in (START, MODEL, REFERENCE) if name in records}
    lacks = [] if start is None else missing_figures(records[MODEL])
    remarks = [f"No balanced score: there is no {'; no '.join(lacks)}."] if lacks else []
    remarks += [*left_out, *not_common({MODEL: records[MODEL]} | ordered)]
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


def _informed(
    named: Mapping[str, Suite],
    condition: Condition | None,
    start: Model | None,
    reference: Model | None,
    loading: Loading,
) -> tuple[Mapping[str, Suite], list[str]]:
    """Return the suites with what they need of the other models, and remarks on those left out."""
    left_out: list[str] = []
    if condition is not None:
        named, left_out = measurable(named)
    if isinstance(reference, str | Path) and is_log(reference):
        named = informed(named, local_path(reference))
    if start is not None:
        beside = start_of(start, loading)
        named = {name: suite.with_start(beside) for name, suite in named.items()}
    return named, left_out


@dataclass(frozen=True)
class _Run:
    """Settings that all models of one call share."""

    suites: Mapping[str, Suite]
    data_root: Path | None
    batch_size: int
    limit: int | None
    loading: Loading
    folder: Path | None
    condition: Condition | None = None

    def record(
        self, model: Model, heading: str, reference: Mapping[str, Reference] | None = None
    ) -> EvaluationRecord:
        """Read these suites of an earlier evaluation, or evaluate the start or reference model."""
        if isinstance(model, str | Path) and is_record(model, heading):
            if not is_evaluation(model):
                return log_record(local_path(model), self.suites, self.data_root)
            record = read_evaluation(local_path(model))
            kept = {name: suite for name, suite in record.suites.items() if name in self.suites}
            return replace(record, suites=kept)
        if heading == REFERENCE:
            check_suites(self.suites, self.data_root, None, self.limit)
        folder = None if self.folder is None else self.folder / heading
        return self.fresh(model, folder, reference, heading=heading)

    def fresh(
        self,
        model: Model,
        folder: Path | None,
        reference: Mapping[str, Reference] | None,
        start: EvaluationRecord | None = None,
        never: EvaluationRecord | None = None,
        heading: str = MODEL,
    ) -> EvaluationRecord:
        """Evaluate a model and write the record."""
        subject = behind(self.condition, subject_from(model, self.loading, heading))
        store = None if folder is None else Store(folder / "store")
        asked = (self.suites, subject, store, self.data_root, reference)
        found = run_suites(*asked, batch_size=self.batch_size, limit=self.limit)
        template = asdict(subject.encoder.template)
        settings = {**asdict(self.loading), "limit": self.limit, "template": template}
        del settings["device"]
        if self.condition is not None:
            settings["context"] = repr(self.condition)
        record = EvaluationRecord(subject.name, subject.fingerprint, found, settings, versions())
        if start is not None:
            record = replace(record, balance=balance_figures(start, record, never))
        if folder is not None and rank() == 0:
            write_evaluation(folder, record)
        return record
