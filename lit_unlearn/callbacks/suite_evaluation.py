"""SuiteEvaluation: whole suites during and after training, and in ``lit-unlearn test``."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lit_unlearn import log_names
from lit_unlearn.callbacks.end_order import EVALUATION, order_end, weights_change
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.balancing import balance_figures, missing_figures
from lit_unlearn.evaluation.figure_names import figure_names
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Reference, Subject, Suite
from lit_unlearn.evaluation.record_files import (
    evaluation_files,
    is_evaluation,
    read_evaluation,
    write_evaluation,
)
from lit_unlearn.evaluation.records import EvaluationRecord, versions
from lit_unlearn.evaluation.subjects import weights_fingerprint
from lit_unlearn.evaluation.suite_run import check_suites, run_suites
from lit_unlearn.models.forward import evaluating
from lit_unlearn.report.evaluation_show import PAGE, show_evaluations, shown_files
from lit_unlearn.training.monitors import monitors
from lit_unlearn.utils.chat_template import template_key
from lit_unlearn.utils.paths import local_path

__all__ = ["SuiteEvaluation"]
__all__ += ["as_tensors", "log_figures", "scalars", "student_subject", "undisturbed"]

_START = "step_0"
"""Folder of the evaluation before the first step."""
_BALANCE = "balance"
"""Suite's place in the names of the balanced score and its parts."""
_BALANCE_SCALARS = log_names.figure_name(_BALANCE, "")


class SuiteEvaluation(Callback):
    """Evaluation of suites at chosen steps of training, at its end, and in `lit-unlearn test`.

    Results go into the run's folder: `evaluation/step_<n>/` with metrics.json, rows.jsonl and the
    stored outcomes, `evaluation/test/` for `lit-unlearn test`, which also shows the table. Each
    figure is a TensorBoard scalar, `eval/<suite>/<figure>`. With `at_start`, the balanced score of
    each later evaluation is `eval/balance/balance`, and its parts are `eval/balance/part/<part>`,
    if the suites measure all parts. The evaluation does not change the training.

    Args:
        suites: Suites by the name under which their figures are shown.
        every_n_steps: Steps of training between evaluations; 0 for none.
        at_start: Whether to evaluate before the first step; a resumed run does not. The balanced
            score compares with this evaluation.
        at_end: Whether to evaluate after the last step.
        subsample: Largest number of rows of each group of a suite, spread evenly, during training;
            null for all. Evaluations before the first and after the last step use all rows.
        reference: Folder of an evaluation of a retain model with the same suites, for the figures
            that compare with one; null for none.
        batch_size: Probes per forward pass.
    """

    end_order = EVALUATION

    def __init__(
        self,
        suites: dict[str, Suite],
        every_n_steps: int = 0,
        at_start: bool = False,
        at_end: bool = True,
        subsample: int | None = None,
        reference: str | None = None,
        batch_size: int = 16,
    ) -> None:
        if not suites:
            raise InputError(
                "Parameter `suites` of SuiteEvaluation should name at least one suite. Found none; "
                "add for example {boundary: {class_path: Boundary}}."
            )
        self.suites, self.every_n_steps, self.at_start = suites, every_n_steps, at_start
        self.at_end, self.subsample, self.reference = at_end, subsample, reference
        self.batch_size = batch_size
        self._measured = ""
        """Fingerprint of the weights that were measured last, at the end of training."""

    def scalar_names(self, objectives: object, data: Any) -> Iterator[str]:
        """Yield the names of the figures; a star stands for those that are known later."""
        references = self._reference_rows() or {}
        for name, suite in self.suites.items():
            known = figure_names(suite, data.data_root, references.get(name))
            for figure in ["*"] if known is None else known:
                yield log_names.figure_name(name, figure)
        if self.at_start:
            yield log_names.figure_name(_BALANCE, "*")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that rows of all suites, and the reference, can be found."""
        order_end(trainer)
        for limit in {None, self.subsample}:
            check_suites(self.suites, _data_root(trainer), self._reference_rows(), limit)

    def writes(self, root: Path, steps: int | None) -> list[Path]:
        """Return the files of all evaluations in a run's folder; see `check_run_folder`."""
        if steps is None:
            folder = root / "evaluation" / "test"
            return [*evaluation_files(folder), *shown_files(folder, self.suites)]
        if steps < 1:  # epochs count, and their rows are not read yet
            return [root / "evaluation" / "step_*"]
        every = self.every_n_steps
        due = {0} if self.at_start else set()
        due |= set(range(every, steps + 1, every)) if every else set()
        due |= {steps} if self.at_end else set()
        folders = [root / "evaluation" / f"step_{step}" for step in sorted(due)]
        return [file for folder in folders for file in evaluation_files(folder)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.at_start and trainer.global_step == 0:
            _, record = self._measure(trainer, pl_module, _START, None)
            trainer.callback_metrics.update(as_tensors(record))
            _check_balance(trainer, record)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Measure at every n-th step and after the last one, before monitors look at figures."""
        step = trainer.global_step
        if self.at_end and step == trainer.max_steps:
            self._measure_last(trainer, pl_module)
        elif self.every_n_steps and step % self.every_n_steps == 0:
            folder_and_record = self._measure(trainer, pl_module, f"step_{step}", self.subsample)
            log_figures(pl_module, folder_and_record[1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the model of a run that stops early, before checkpoints are written."""
        if self.at_end and trainer.should_stop and not self._measured:
            self._measure_last(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Measure again where another callback has changed the weights, such as their average."""
        if self.at_end and self._measured != weights_fingerprint(pl_module.student):
            _, record = self._measure(trainer, pl_module, f"step_{trainer.global_step}", None)
            trainer.callback_metrics.update(as_tensors(record))

    def _measure_last(self, trainer: Trainer, module: Any) -> None:
        """Measure the trained model on all rows."""
        if weights_change(trainer):
            return
        _, record = self._measure(trainer, module, f"step_{trainer.global_step}", None)
        self._measured = record.fingerprint
        log_figures(module, record)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the model, and show the table."""
        folder, record = self._measure(trainer, pl_module, "test", None)
        trainer.callback_metrics.update(as_tensors(record))
        if trainer.is_global_zero:
            show_evaluations(
                folder / PAGE,
                {"model": record},
                title=f"Evaluation of {record.model}",
                places={"results": folder},
            )

    def _measure(
        self, trainer: Trainer, module: Any, name: str, limit: int | None
    ) -> tuple[Path, EvaluationRecord]:
        """Run all suites on the student; write the record and log its figures."""
        folder = Path(trainer.default_root_dir) / "evaluation" / name
        with undisturbed(module.student):
            subject = student_subject(trainer, module, weights_fingerprint(module.student))
            found = run_suites(
                self.suites,
                subject,
                Store(folder / "store"),
                _data_root(trainer),
                self._reference_rows(),
                batch_size=self.batch_size,
                limit=limit,
            )
        settings = {
            "step": trainer.global_step,
            "checkpoint": trainer.ckpt_path,
            "limit": limit,
            "reference": self.reference,
            "template": asdict(subject.encoder.template),
        }
        record = EvaluationRecord(subject.name, subject.fingerprint, found, settings, versions())
        start = folder.with_name(_START)
        if self.at_start and folder != start and is_evaluation(start):
            record = replace(record, balance=balance_figures(read_evaluation(start), record))
        if trainer.is_global_zero:
            write_evaluation(folder, record)
            figures = scalars(record)
            for logger in trainer.loggers:
                logger.log_metrics(figures, trainer.global_step)
        return folder, record

    def _reference_rows(self) -> Mapping[str, Reference] | None:
        if not self.reference:
            return None
        return read_evaluation(local_path(self.reference)).rows_by_group()


def _check_balance(trainer: Trainer, start: EvaluationRecord) -> None:
    """Refuse a monitor of the balanced score that the suites cannot give."""
    wanted = [name for _, name in monitors(trainer) if name.startswith(_BALANCE_SCALARS)]
    lacks = missing_figures(start) if wanted else []
    if lacks:
        raise InputError(
            f"Parameter `suites` of SuiteEvaluation should measure all parts of the balanced score "
            f"for the monitor {wanted[0]!r}. Found no {'; no '.join(lacks)}; add such suites, or "
            f"monitor another scalar."
        )


def scalars(record: EvaluationRecord) -> dict[str, float]:
    """Return name -> value of the logged scalars; figures without a finite value are left out."""
    figures = {name: suite.figures for name, suite in record.suites.items()}
    return {
        log_names.figure_name(name, figure.name): figure.value
        for name, own in (figures | {_BALANCE: record.balance}).items()
        for figure in own
        if math.isfinite(figure.value)
    }


def log_figures(module: LightningModule, record: EvaluationRecord) -> None:
    """Give the figures of a record to Lightning's callbacks; loggers have them by another way."""
    module.log_dict(scalars(record), logger=False, batch_size=1)


def as_tensors(record: EvaluationRecord) -> dict[str, Tensor]:
    """Return the scalars for `trainer.callback_metrics`, where a hook may not log."""
    return {name: torch.tensor(value) for name, value in scalars(record).items()}


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode and allow gradients; restore modes and random state afterwards."""
    # `lit-unlearn test` runs in inference mode, in which suites cannot relearn or optimise
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(),
        evaluating(model),
    ):
        yield


def student_subject(trainer: Trainer, module: Any, fingerprint: str) -> Subject:
    """Describe the student of a run, with the run's longest sequence."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    encoder = Encoder(module.tokenizer, data.max_length, "warn", data.template)
    fingerprint += template_key(module.tokenizer, data.template)
    return Subject(module.source.path, module.student, module.tokenizer, encoder, fingerprint)


def _data_root(trainer: Trainer) -> Path | None:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    root: Path | None = data.data_root
    return root
