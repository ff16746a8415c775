"""AnswerEvaluation: what the model answers before, during and after training, and the report."""

import json
import platform
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import track

from lit_unlearn import __version__
from lit_unlearn.callbacks.gradient_monitor import GRADIENT_FILE
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.distributed.ranks import on_first, share
from lit_unlearn.evaluation.answers import Asked, answer, questions
from lit_unlearn.report import (
    AnswerRecord,
    ObjectiveSummary,
    ReportTable,
    RunFacts,
    read_gradients,
    summarise,
    summary_table,
    write_report,
    write_summary,
)
from lit_unlearn.training.setup.teacher_gate import GateRow
from lit_unlearn.utils.atomic import write_text

CHUNK = 32


class AnswerEvaluation(Callback):
    """Asks the evaluation questions before and after training, and writes the report.

    Before the first step and after the last one every objective's evaluation rows are asked,
    without prefill and with each objective's `evaluation_prefills`. The end of the run prints the
    table and writes `summary.json`, `report.html`, `answers_before.jsonl` and
    `answers_after.jsonl` into the run's folder.

    Args:
        max_new_tokens: Longest answer.
        batch_size: Rows per forward pass.
        samples_every: Write a few answers as TensorBoard text at every so many steps; 0 for never.
        samples: Questions of each objective among them, always the same.
    """

    def __init__(
        self,
        max_new_tokens: int = 32,
        batch_size: int = 32,
        samples_every: int = 0,
        samples: int = 2,
    ) -> None:
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.samples_every = samples_every
        self.samples = samples
        self.before: list[ObjectiveSummary] = []
        self.after: list[ObjectiveSummary] = []
        self._records: list[AnswerRecord] = []
        self._started = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask before the first step; a resumed run reads what was asked then."""
        path = Path(trainer.default_root_dir) / "answers_before.jsonl"
        begun = trainer.global_step > 0
        known = on_first(lambda: _read_records(path) if begun and path.exists() else None)
        self._records = known or self._ask(trainer, pl_module, "before")
        if known is None:
            _write_records(path, self._records)
        self.before = summarise(self._records)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A short look at fixed samples."""
        step = trainer.global_step
        if self.samples_every and step % self.samples_every == 0:
            self._look(trainer, pl_module, step)

    def _look(self, trainer: Trainer, module: Any, step: int) -> None:
        board: Any = getattr(trainer.logger, "experiment", None)
        if not on_first(lambda: hasattr(board, "add_text")):
            return
        asked = [a for name in module.objectives for a in self._samples(trainer, name)]
        now = self._answers(asked, trainer, module)
        if not trainer.is_global_zero:
            return
        first = {(r.objective, r.example_id, r.prefill): r.generated for r in self._records}
        for record in now:
            key = (record.objective, record.example_id, record.prefill)
            text = (
                f"**{record.question}** {record.prefill}\n\n"
                f"before: {first.get(key, '-')}\n\nstep {step}: {record.generated}"
            )
            tag = f"samples/{record.objective}{'_prefilled' if record.prefill else ''}"
            board.add_text(f"{tag}/{record.example_id}", text, step)

    def _samples(self, trainer: Trainer, name: str) -> list[Asked]:
        asked = [a for a in _questions(trainer) if a[0] == name]
        plain = [a for a in asked if not a[2]][: self.samples]
        return plain + [a for a in asked if a[2]][: self.samples]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask again, print the table, write summary and report."""
        records = self._ask(trainer, pl_module, "after")
        self.after = summarise(records)
        self._conclude(trainer, pl_module, records)

    @rank_zero_only
    def _conclude(
        self, trainer: Trainer, pl_module: LightningModule, records: list[AnswerRecord]
    ) -> None:
        folder = Path(trainer.default_root_dir)
        _write_records(folder / "answers_after.jsonl", records)
        facts = self._facts(trainer, pl_module)
        write_summary(folder / "summary.json", self.before, self.after, facts)
        self._report(folder, records, facts, pl_module)
        console = Console(stderr=True)
        console.print(summary_table(self.before, self.after))
        for what, path in facts.paths.items():
            console.print(f"{what}: {path}", highlight=False, soft_wrap=True)

    def _report(
        self, folder: Path, records: list[AnswerRecord], facts: RunFacts, module: Any
    ) -> None:
        gradients = folder / GRADIENT_FILE
        gate = module.prepared.gate_rows if module.prepared is not None else []
        config = folder / "config.yaml"
        write_report(
            folder / "report.html",
            before=self._records,
            after=records,
            facts=facts,
            gradients=read_gradients(gradients) if gradients.exists() else [],
            gate=_gate_report(gate),
            config=config.read_text("utf-8") if config.exists() else "",
        )

    def _ask(self, trainer: Trainer, module: Any, when: str) -> list[AnswerRecord]:
        asked = _questions(trainer)
        # rows of one length range share a batch, so that short prompts are not padded much
        records: dict[int, AnswerRecord] = {}
        order = sorted(range(len(asked)), key=lambda i: len(asked[i][1].question + asked[i][2]))
        size = CHUNK * trainer.world_size
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        console = Console(stderr=True, quiet=not trainer.is_global_zero)
        for chunk in track(chunks, description=f"questions {when} training", console=console):
            found = self._answers([asked[i] for i in chunk], trainer, module)
            records.update(zip(chunk, found, strict=True))
        return [records[index] for index in range(len(asked))]

    def _answers(self, asked: list[Asked], trainer: Trainer, module: Any) -> list[AnswerRecord]:
        """The records of all, of which each process has asked some."""
        ask = partial(
            answer,
            model=module.student,
            encoder=_encoder(trainer, module),
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
        )
        return share(asked, ask, module.student)

    def _facts(self, trainer: Trainer, module: Any) -> RunFacts:
        folder = Path(trainer.default_root_dir)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
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
                "model": str(folder / "model"),
                "TensorBoard": f"tensorboard --logdir {folder}",
            },
            versions={
                "lit_unlearn": __version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        )


def _encoder(trainer: Trainer, module: Any) -> Encoder:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return Encoder(module.tokenizer, data.max_length, "warn")


def _questions(trainer: Trainer) -> list[Asked]:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    prefills = {name: spec.evaluation_prefills for name, spec in data.objectives.items()}
    return questions(data.evaluation, prefills)


def _read_records(path: Path) -> list[AnswerRecord]:
    lines = path.read_text("utf-8").split("\n")
    return [AnswerRecord(**json.loads(line)) for line in lines if line]


@rank_zero_only
def _write_records(path: Path, records: list[AnswerRecord]) -> None:
    write_text(path, "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in records))


def _gate_report(rows: list[GateRow]) -> ReportTable | None:
    if not rows:
        return None
    return ReportTable(
        title="Teacher gate",
        columns=("objective", "context", "duty", "rows", "share", "at least", "passed"),
        rows=[
            (
                row.objective,
                row.context,
                row.duty,
                str(row.rows),
                f"{row.share:.0%}",
                f"{row.threshold:.0%}",
                "yes" if row.passed else "no",
            )
            for row in rows
        ],
        note="What the teacher did on a sample of each objective under each context tried.",
    )
