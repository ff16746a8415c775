"""AnswerEvaluation: answers of the model before, during and after training, and the report."""

import platform
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from lit_unlearn import log_names
from lit_unlearn.callbacks.board import as_code, tensorboard
from lit_unlearn.callbacks.end_order import EVALUATION, EXPORT, order_end, weights_change
from lit_unlearn.callbacks.gradient_monitor import GRADIENT_FILE
from lit_unlearn.callbacks.suite_evaluation import as_tensors, log_figures, student_subject
from lit_unlearn.distributed.ranks import on_first
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord, settings_of, versions
from lit_unlearn.evaluation.subjects import start_fingerprint, weights_fingerprint
from lit_unlearn.evaluation.suite_run import run_suites
from lit_unlearn.evaluation.suites.answers import (
    PREFILLED,
    SCORES,
    Answers,
    answer_figures,
    read_answers,
    write_answers,
)
from lit_unlearn.report import RunFacts, read_gradients, summary_table, write_report, write_summary
from lit_unlearn.utils.disk import usable_cache
from lit_unlearn.utils.grouping import grouped
from lit_unlearn.utils.tables import print_paths, terminal

__all__ = ["AnswerEvaluation"]

_MODEL = "model"
"""Name of the exported folder among the paths; the export prints it when it is written."""


class AnswerEvaluation(Callback):
    """Evaluation of the model's answers before and after training, and the report of the run.

    Before the first and after the last step, the model answers the evaluation rows of every
    objective, without prefill and with the objective's `evaluation_prefills`. Answers of the start
    model are kept in the user's cache, so that other runs do not ask again. At its end, the run
    prints the table and writes `summary.json`, `report.html`, `answers_before.jsonl` and
    `answers_after.jsonl` into its folder.

    Args:
        max_new_tokens: Largest number of tokens of an answer.
        batch_size: Rows per forward pass.
        samples_every: Steps between samples of answers, written as TensorBoard text; 0 for a sample
            at the end alone.
        samples: Number of questions of each objective in a sample, which are always the same; 0 for
            no samples.
    """

    end_order = EVALUATION

    def __init__(
        self,
        max_new_tokens: int = 32,
        batch_size: int = 32,
        samples_every: int = 0,
        samples: int = 2,
    ) -> None:
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.samples_every, self.samples = samples_every, samples
        self.before: EvaluationRecord | None = None
        self.after: EvaluationRecord | None = None
        self._asked = ""
        """Fingerprint of the weights that were asked last."""
        self._started = time.monotonic()

    def scalar_names(self, objectives: object, data: Any) -> Iterator[str]:
        """Yield the names of the figures after training."""
        for name, spec in data.objectives.items():
            for group in (name, f"{name}{PREFILLED}")[: 1 + bool(spec.evaluation_prefills)]:
                yield from (
                    log_names.figure_name(Answers.name, f"{group}/{score}") for score in SCORES
                )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        order_end(trainer)

    def writes(self, root: Path, steps: int | None) -> list[Path]:
        """Return the files that a run writes into its folder; see `check_run_folder`."""
        names = ("summary.json", "report.html", "answers_before.jsonl", "answers_after.jsonl")
        return [root / name for name in names if steps is not None]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask before the first step; a resumed run reads the answers that it wrote then."""
        self.before = self._record(trainer, pl_module, "before", resumed=trainer.global_step > 0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Ask after the last step, before monitors look; write samples to TensorBoard."""
        if trainer.global_step == trainer.max_steps:
            self._ask_last(trainer, pl_module)
        elif self.samples_every and trainer.global_step % self.samples_every == 0:
            self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, module: Any) -> None:
        """Ask a few questions, and write the replies to TensorBoard."""
        if self.samples and tensorboard(trainer) is not None:
            rows = self._run(self.suite(_data(trainer), self.samples), trainer, module).rows
            self._show(trainer, rows)

    @rank_zero_only
    def _show(self, trainer: Trainer, rows: Sequence[Row]) -> None:
        """Write the first questions and replies of each group as text, beside the start model's."""
        logger = tensorboard(trainer)
        if logger is None or self.before is None:
            return
        first = {row.row_id: row.reply for row in self.before.suites[Answers.name].rows}
        for group, members in grouped(rows, lambda row: row.group).items():
            texts = [
                f"**question**\n\n{as_code(row.question)}\n\n"
                f"**before**\n\n{as_code(first.get(row.row_id, '-'))}\n\n"
                f"**step {trainer.global_step}**\n\n{as_code(row.reply)}"
                for row in members[: self.samples]
            ]
            shown = f"samples/{group.replace(PREFILLED, '_prefilled')}"
            logger.experiment.add_text(shown, "\n\n".join(texts), trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the model of a run that stops early, before checkpoints are written."""
        if trainer.should_stop and self.after is None:
            self._ask_last(trainer, pl_module)

    def _ask_last(self, trainer: Trainer, module: Any) -> None:
        """Ask the trained model, and give its figures to Lightning's callbacks."""
        if weights_change(trainer):
            return
        self.after = self._record(trainer, module, "after")
        self._asked = weights_fingerprint(module.student)
        log_figures(module, self.after)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print the table, write summary and report; ask again if the weights have changed."""
        if self.after is None or self._asked != weights_fingerprint(pl_module.student):
            self.after = self._record(trainer, pl_module, "after")
            trainer.callback_metrics.update(as_tensors(self.after))
        self._conclude(trainer, pl_module)

    @rank_zero_only
    def _conclude(self, trainer: Trainer, module: Any) -> None:
        if self.before is None or self.after is None:
            raise RuntimeError("on_train_start and on_train_end should run before the report")
        folder = Path(trainer.default_root_dir)
        if self.samples:
            self._show(trainer, self.after.suites[Answers.name].rows)
        facts = self._facts(trainer, module)
        write_summary(folder / "summary.json", self.before, self.after, facts)
        gradients, config = folder / GRADIENT_FILE, folder / "config.yaml"
        write_report(
            folder / "report.html",
            before=self.before,
            after=self.after,
            facts=facts,
            gradients=read_gradients(gradients) if gradients.exists() else [],
            gate=module.prepared.gate_rows if module.prepared is not None else [],
            config=config.read_text("utf-8") if config.exists() else "",
        )
        console = terminal(stderr=True)
        console.print(summary_table(self.before, self.after))
        print_paths(console, {n: p for n, p in facts.paths.items() if n != _MODEL})

    def _record(
        self, trainer: Trainer, module: Any, when: str, *, resumed: bool = False
    ) -> EvaluationRecord:
        """Ask all questions and write the answers; on resume, read the answers instead."""
        path = Path(trainer.default_root_dir) / f"answers_{when}.jsonl"
        suite = self.suite(_data(trainer))
        rows = on_first(lambda: read_answers(path) if resumed and path.exists() else None)
        if rows is None:
            found = self._run(suite, trainer, module, kept=when == "before" and not resumed)
            if trainer.is_global_zero:
                write_answers(path, suite.probes(None), found.rows)
        else:
            found = SuiteRecord(suite.name, settings_of(suite), 0, 0, rows, answer_figures(rows))
        return EvaluationRecord(module.source.path, "", {suite.name: found}, {}, versions())

    def suite(self, data: Any, most: int | None = None) -> Answers:
        """Return the suite of a data module's rows, with at most ``most`` of each objective."""
        return Answers(
            {name: rows[:most] for name, rows in data.evaluation.items()},
            {name: spec.evaluation_prefills for name, spec in data.objectives.items()},
            self.max_new_tokens,
        )

    def _run(
        self, suite: Answers, trainer: Trainer, module: Any, *, kept: bool = False
    ) -> SuiteRecord:
        about = _start_fingerprint(trainer, module) if kept else ""
        folder = on_first(partial(usable_cache, "answers", about[:16])) if about else None
        store = None if folder is None else Store(folder, shared=True)
        subject = student_subject(trainer, module, about)
        given = {suite.name: suite}
        found = run_suites(given, subject, store, batch_size=self.batch_size)[suite.name]
        if store is not None and store.found:
            known = f"{store.found} of {len(found.rows)}"
            terminal(stderr=True).print(f"Answers before training: {known} from the cache.")
        return found

    def _facts(self, trainer: Trainer, module: Any) -> RunFacts:
        folder = Path(trainer.default_root_dir)
        data, logger = _data(trainer), tensorboard(trainer)
        curves = {} if logger is None else {"TensorBoard": f"tensorboard --logdir {logger.log_dir}"}
        ends = [getattr(callback, "end_order", 0) for callback in trainer.callbacks]  # type: ignore[attr-defined]
        exported = {_MODEL: str(folder / "model")} if EXPORT in ends else {}
        return RunFacts(
            model=module.source.path,
            seed=data.seed,
            steps=trainer.global_step,
            seconds=time.monotonic() - self._started,
            device=f"{module.device} ({platform.processor() or platform.machine()})",
            paths={
                "summary": str(folder / "summary.json"),
                "report": str(folder / "report.html"),
                "gradients": str(folder / GRADIENT_FILE),
                **exported,
                **curves,
            },
            versions={key: value for key, value in versions().items() if key != "python"},
        )


def _start_fingerprint(trainer: Trainer, module: Any) -> str:
    """Return `start_fingerprint`; empty where the student may be another model.

    That is a model from a checkpoint, or with noise.
    """
    source = module.source
    if trainer.ckpt_path is not None or source.noise is not None:
        return ""
    dtypes = (parameter.dtype for parameter in module.student.parameters())
    return start_fingerprint(source, dtypes, _data(trainer).max_length)


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]
