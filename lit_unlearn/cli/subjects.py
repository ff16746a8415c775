"""The models of one command, each put to the same suites: evaluated anew, or read from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from lit_unlearn.distributed.ranks import rank
from lit_unlearn.evaluation.evaluate import Reference, check_suites, evaluate, versions
from lit_unlearn.evaluation.files import is_evaluation, read_evaluation, write_evaluation
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.evaluation.subjects import load_subject, named_model
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import DType


def check_model(given: str | None) -> None:
    """Say at once that a model is not there; None and folders of evaluations are no models.

    Raises:
        InputError: It cannot be found.
    """
    if given is not None and not is_evaluation(Path(given)):
        with named_model():
            find_model(given)


@dataclass(frozen=True)
class Loading:
    """How each model is read; see `load_subject`."""

    dtype: DType = "float32"
    device: str = "auto"
    max_length: int | None = None
    plain_chat: bool = False
    hide_pad: bool = False


@dataclass(frozen=True)
class ModelRun:
    """What is the same for all models of a command."""

    suites: Mapping[str, Suite]
    data_root: Path | None
    batch_size: int
    limit: int | None
    loading: Loading

    def check(self, reference: Reference | None) -> None:
        """Say at once what is missing, before a model is loaded.

        Raises:
            InputError: Rows of a suite, or of the reference.
        """
        check_suites(self.suites, self.data_root, reference, self.limit)

    def retain(self) -> ModelRun:
        """For the retain model itself, which is compared with none."""
        suites = {name: suite.without_reference() for name, suite in self.suites.items()}
        return replace(self, suites=suites)

    def earlier(self, folder: str) -> EvaluationRecord:
        """The suites' part of an earlier evaluation.

        Raises:
            InputError: It cannot be read.
        """
        record = read_evaluation(Path(folder))
        kept = {name: suite for name, suite in record.suites.items() if name in self.suites}
        return replace(record, suites=kept)

    def fresh(
        self, model: str, folder: Path, reference: Reference | None = None
    ) -> EvaluationRecord:
        """Evaluate a model, and write what was found.

        Raises:
            InputError: The model cannot be loaded or asked.
        """
        how = self.loading
        subject = load_subject(
            model,
            how.dtype,
            how.device,
            how.max_length,
            plain_chat=how.plain_chat,
            hide_pad=how.hide_pad,
        )
        found = evaluate(
            self.suites,
            subject,
            Store(folder / "store"),
            self.data_root,
            reference=reference,
            batch_size=self.batch_size,
            limit=self.limit,
            progress=_tell,
        )
        told = asdict(how)
        del told["device"]
        settings = {**told, "limit": self.limit}
        record = EvaluationRecord(model, subject.fingerprint, found, settings, versions())
        if rank() == 0:
            write_evaluation(folder, record)
        return record


def _tell(record: SuiteRecord) -> None:
    if rank() == 0:
        text = f"{record.suite}: {len(record.rows)} rows, {record.seconds:.1f} s"
        Console(stderr=True).print(text, highlight=False, markup=False)
