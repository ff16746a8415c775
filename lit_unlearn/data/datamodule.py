"""UnlearnDataModule: reads the rows of every objective and serves them step by step."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.collation import collate
from lit_unlearn.data.duplicates import describe, find_duplicates
from lit_unlearn.data.encoding import Encoder, OnProblem
from lit_unlearn.data.epochs import (
    EpochSteps,
    StepBatch,
    StepDataset,
    StepLoader,
    checked_epoch,
    limited,
    run_steps,
)
from lit_unlearn.data.mixing import Draw, Mixing, StepPlan, draw, rows_per_step
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.questions import Asked, Batches, Questions
from lit_unlearn.data.sources import OnBadRow, Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.data.validation_rows import (
    ValidationBatch,
    ValidationBatches,
    ValidationRow,
    hold_out,
)
from lit_unlearn.distributed.ranks import rank, world_size
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.types import EncodedExample, Example, Representation, TokenBatch
from lit_unlearn.utils.chat_template import Template
from lit_unlearn.utils.library_internals import resume_after_step

__all__ = ["EncodedRows", "UnlearnDataModule"]

log = logging.getLogger(__name__)

EncodedRows = Mapping[str, Sequence[Sequence[EncodedExample]]]


class UnlearnDataModule(LightningDataModule):
    """Rows of any number of named objectives, in one representation, mixed step by step.

    The names must be those of `model.objectives`. The rows of a step depend only on the seed, the
    step and the rank, so that a resumed run continues exactly.

    Args:
        objectives: Data of each objective, by name; usually forget, retain, neighbor and
            adversarial.
        representation: `unified` turns every domain into chat questions and answers; `raw` keeps
            the original form of each domain as plain text.
        mixing: Division of a batch among objectives: `stratified` takes each objective's `rows`;
            `proportional` and `temperature` divide `batch_size` according to the numbers of rows.
        batch_size: Rows per step of all objectives (proportional and temperature mixing).
        mixing_temperature: 1 is proportional; a higher value makes the shares more equal.
        micro_batch_rows: Largest number of rows in one forward pass; gradients are accumulated per
            objective. Null takes all rows of an objective at once.
        max_length: Longest sequence in tokens, of the student and of the teacher.
        data_root: Folder that replaces the hub, with the hub's names or in the benchmark layout
            of the documentation; null reads the environment variable LIT_UNLEARN_DATA.
        on_bad_row: Treatment of rows that cannot be read: `error` stops with file, line and
            reason; `skip` leaves them out and counts them.
        on_problem: Treatment of rows that cannot be encoded exactly (answer cut off, empty answer,
            prompt not a prefix): `error` stops; `warn` warns with counts. Rows that the chat
            template refuses are left out and counted if either setting allows it.
        template: Settings of the chat template: system prompt, date, thoughts, and others.
        seed: Seed of the order of rows; set by `seed_everything` on the command line.
        num_workers: Number of processes that collate batches; the batches do not depend on it.
        validation_batch_size: Rows in a batch of validation, over all processes.
        epoch: Length of an epoch: a number of steps, or the name of the objective whose rows it
            takes once, rounded up to whole steps. Null takes the first objective that expects
            `decline`, or the first one if there is none.
    """

    def __init__(
        self,
        objectives: dict[str, ObjectiveData],
        representation: Representation = "unified",
        mixing: Mixing = "stratified",
        batch_size: int = 16,
        mixing_temperature: float = 2.0,
        micro_batch_rows: int | None = None,
        max_length: int = 2048,
        data_root: str | None = None,
        on_bad_row: OnBadRow = "error",
        on_problem: OnProblem = "error",
        template: Template | None = None,
        seed: int = 0,
        num_workers: int = 0,
        validation_batch_size: int = 16,
        epoch: int | str | None = None,
    ) -> None:
        super().__init__()
        if not objectives:
            raise InputError(
                "Parameter `data.objectives` should name at least one objective. Found none."
            )
        check_number("data.batch_size", batch_size, 1)
        check_number("data.mixing_temperature", mixing_temperature, 0, above=True)
        check_number("data.micro_batch_rows", micro_batch_rows, 1)
        check_number("data.max_length", max_length, 1)
        check_number("data.num_workers", num_workers, 0)
        check_number("data.validation_batch_size", validation_batch_size, 1)
        for name, data in objectives.items():
            check_number(f"data.objectives.{name}.rows", data.rows, 0, above=True)
            check_number(f"data.objectives.{name}.answer_tokens", data.answer_tokens, 1)
            check_number(f"data.objectives.{name}.refresh_steps", data.refresh_steps, 1)
            check_number(f"data.objectives.{name}.evaluation_rows", data.evaluation_rows, 0)
        self.epoch = checked_epoch(epoch, objectives)
        self.objectives = objectives
        self.representation: Representation = representation
        self.mixing: Mixing = mixing
        self.batch_size, self.mixing_temperature = batch_size, mixing_temperature
        self.micro_batch_rows, self.max_length = micro_batch_rows, max_length
        self.data_root = Path(data_root) if data_root else None
        self.on_bad_row: OnBadRow = on_bad_row
        self.on_problem: OnProblem = on_problem
        self.template = template or Template()
        self.seed, self.num_workers = seed, num_workers
        self.validation_batch_size = validation_batch_size
        self.examples: dict[str, list[Example]] = {}
        self.evaluation: dict[str, list[Example]] = {}
        self.validation: dict[str, list[Example]] = {}
        self.encoded: EncodedRows = {}
        self.questions, self.asked = Questions(), list[Asked]()
        self.pad_id = 0
        self.spellings: Tensor | None = None

    def prepare_data(self) -> None:
        """Find and read all rows, so that a missing file is reported before a model is loaded."""
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Read the rows of all objectives once; warn about questions both to forget and to keep."""
        if self.examples:
            return
        every = {name: self._read(data.sources) for name, data in self.objectives.items()}
        given = {name: data.validation for name, data in self.objectives.items()}
        shares = {name: own for name, own in given.items() if isinstance(own, float)}
        examples, held = hold_out(every, shares, self.seed) if shares else (every, {})
        evaluation = {}
        for name, data in self.objectives.items():
            if isinstance(data.validation, list):
                self.validation[name] = self._read(data.validation)
            elif data.validation is not None:
                self.validation[name] = held[name]
            lacking = next((row for row in examples[name] if not row.rejected), None)
            if data.rejected == "row" and lacking is not None:
                raise InputError(
                    f"Parameter `data.objectives.{name}.rejected` is `row`, so each row should "
                    "have a rejected answer (columns `chosen` and `rejected`). Found none in row "
                    f"{lacking.example_id!r}; use `gold` or `refusal`, or other rows."
                )
            chosen = self._read(data.evaluation) if data.evaluation else examples[name]
            if data.evaluation_rows:
                evaluation[name] = chosen[: data.evaluation_rows]
        self.examples, self.evaluation = examples, evaluation
        forgotten = [n for n, data in self.objectives.items() if data.expect == "decline"]
        text = describe(find_duplicates(self.examples), forgotten)
        if text and rank() == 0:
            log.warning(text)

    def _read(self, sources: Sequence[Source]) -> list[Example]:
        return load_examples(sources, self.data_root, self.representation, self.on_bad_row)

    def encoder(self, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """Return the encoder; leave out rows that the chat template refuses, or raise an error."""
        skip = self.on_bad_row == "skip"
        made = Encoder(tokenizer, self.max_length, self.on_problem, self.template, skip)
        for held in (self.evaluation, self.validation, self.examples):
            for name, rows in held.items():
                held[name] = made.accepted(name, rows)
        return made

    def set_rows(self, encoded: EncodedRows, pad_id: int, spellings: Tensor | None = None) -> None:
        """Set the encoded rows: for each objective and row its candidates (usually one).

        ``pad_id`` is any valid token id; ``spellings`` is as in `TokenBatch`.
        """
        self.encoded, self.pad_id, self.spellings = encoded, pad_id, spellings

    def plan(self, rank: int = 0, world: int = 1) -> StepPlan:
        """Return the plan of the rows of every step."""
        rows: Mapping[str, Sequence[object]] = self.encoded or self.examples
        sizes = {name: len(own) for name, own in rows.items()}
        wanted = {name: data.rows for name, data in self.objectives.items()}
        settings = (self.mixing, wanted, self.batch_size, self.mixing_temperature)
        return StepPlan(sizes, rows_per_step(sizes, *settings), self.seed, rank, world)

    def epoch_steps(self) -> int:
        """Return the number of steps of an epoch; 0 if it depends on rows that are not read yet."""
        if isinstance(self.epoch, int):
            return self.epoch
        return self.plan().steps_of_pass(self.epoch) if self.encoded or self.examples else 0

    def summary(self, steps: int) -> str:
        """Return rows, tokens and epochs of the objectives, a line each, for the start."""
        plan = self.plan()
        return "\n".join(
            f"  {name}: {len(rows)} rows, {sum(row[0].student_start for row in rows)} prompt + "
            f"{sum(row[0].predictions for row in rows)} answer tokens, "
            f"{plan.rows_per_step[name]:g} rows a step, {epochs:.2f} epochs"
            for name, epochs in plan.epochs(steps).items()
            for rows in [self.encoded[name]]
        )

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """Return a loader of an epoch's steps, one item each, from the trainer's current step."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("UnlearnDataModule.trainer should be set before it serves steps.")
        plan = self.plan(trainer.global_rank, trainer.world_size)
        length = self.epoch_steps()
        steps = run_steps(trainer, length)
        if trainer.fit_loop.restarting:
            resume_after_step(trainer, limited(length, trainer))
        return StepLoader(
            StepDataset(self, plan, steps),
            batch_size=None,
            sampler=EpochSteps(trainer, length, steps),
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> list[DataLoader[ValidationBatch]]:
        """Return a loader for each objective that the trainer's module validates, if any."""
        trainer: Any = self.trainer
        rows: Mapping[str, Sequence[ValidationRow]] = trainer.lightning_module.validation_rows()
        place, workers = (trainer.global_rank, trainer.world_size), self.num_workers
        return [
            DataLoader(self.validation_batches(name, own, *place), None, num_workers=workers)
            for name, own in rows.items()
        ]

    def validation_batches(
        self, name: str, rows: Sequence[ValidationRow], rank: int = 0, world: int = 1
    ) -> ValidationBatches:
        """Return the batches of an objective's validation rows that a process reads."""
        size, spellings = self.validation_batch_size, self.spellings
        return ValidationBatches(name, rows, size, self.pad_id, spellings, rank, world)

    def test_dataloader(self) -> list[int]:
        """Return one placeholder item; callbacks evaluate on questions that they hold."""
        return [0]

    def predict_dataloader(self) -> Batches:
        """Return batches of questions, as numbers of the rows in `asked`, for all processes."""
        self.asked = self.questions.read(self.examples, self.representation, self.on_bad_row)
        size = self.questions.batch_size * world_size()
        numbers = [*range(len(self.asked))]
        return Batches(numbers[first : first + size] for first in range(0, len(numbers), size))

    def batch(
        self, drawn: dict[str, list[Draw]], busiest: dict[str, list[Draw]] | None = None
    ) -> StepBatch:
        """Return the token batches of one step, in micro batches.

        ``drawn`` are the rows of this process, ``busiest`` those of the process with most rows
        (None for one process). A process with fewer rows borrows micro batches of the busiest, so
        that all processes make the same number of forward passes.
        """
        most = drawn if busiest is None else busiest
        return {name: self._micro_batches(name, d, most[name]) for name, d in drawn.items()}

    def _micro_batches(self, name: str, draws: list[Draw], busiest: list[Draw]) -> list[TokenBatch]:
        size = self.micro_batch_rows or max(1, len(busiest))
        own, first = ([d[i : i + size] for i in range(0, len(d), size)] for d in (draws, busiest))
        batches = [
            collate([self._candidates(name, drawn) for drawn in part], self.pad_id, self.spellings)
            for part in [*own, *first[len(own) :]]
        ]
        return [replace(b, borrowed=i >= len(own)) for i, b in enumerate(batches)]

    def _candidates(self, name: str, drawn: Draw) -> Sequence[EncodedExample]:
        """Return a row's candidates in this visit: all in order, or its next few prefills."""
        rows = self.encoded[name][drawn.index]
        prefills = self.objectives[name].prefills
        if prefills is None:
            return rows
        count = min(prefills.candidates, len(rows))
        stream = f"{name}/{drawn.index}"
        first = drawn.visit * count
        indices = [draw(len(rows), self.seed, stream, p).index for p in range(first, first + count)]
        return [rows[index] for index in dict.fromkeys(indices)]
