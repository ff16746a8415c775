"""Several ways of a training step in turn, with a baseline step on the same rows in each round."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cost import Precision, numbers, peak_gib, reset_peak, spread, tokens_of
from lightning import Callback, Trainer
from torch import nn

from lit_unlearn.data.datamodule import StepBatch, UnlearnDataModule
from lit_unlearn.models.loading import ModelSource, load_tokenizer
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.prepare import prepare
from lit_unlearn.training.setup.teacher_gate import Gate

Beside = Callable[[nn.Module, Any], Callable[[StepBatch], object]]
"""Function that returns the baseline step for a student and its optimizer."""
BESIDE = "beside"


class Turns(Callback):
    """Callback that runs the steps in several ways in turn, and a baseline step before each round.

    Args:
        ways: Some of `losses` (no Gramian), `sketch` and `exact`.
        beside: Baseline, which trains the same model with the same optimizer; None for none.
        precision: Precision of both.
    """

    def __init__(
        self,
        ways: Sequence[str] = ("losses",),
        beside: Beside | None = None,
        precision: Precision = "32-true",
    ) -> None:
        self.ways = ways
        self.beside = beside
        self.precision = precision
        self.seconds: dict[str, list[float]] = {way: [] for way in (*ways, BESIDE)}
        self.tokens: dict[str, int] = {}
        self.before = self.mark = 0.0
        self.done = 0
        """Steps so far; an epoch may be one step, so that Lightning's number of a batch stays 0."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        reset_peak()
        self.before = peak_gib()
        if self.beside is not None:
            self.step = self.beside(pl_module.student, trainer.optimizers[0])
        self._set(pl_module, 0)
        self.mark = time.process_time()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Run the baseline step; the time since the mark was spent on the batch."""
        fetched = time.process_time() - self.mark
        self.tokens = tokens_of([part for parts in batch.values() for part in parts])
        if self.beside is not None and self.done % len(self.ways) == 0:
            start = time.process_time()
            with numbers(self.precision):
                self.step(batch)
            self._note(BESIDE, time.process_time() - start)
        self.mark = time.process_time() - fetched

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(self.ways[self.done % len(self.ways)], time.process_time() - self.mark)
        self.done += 1
        self._set(pl_module, self.done)
        self.mark = time.process_time()

    def _note(self, way: str, seconds: float) -> None:
        self.seconds[way].append(seconds)
        print(f"{way}: {seconds:.2f} CPU s", file=sys.stderr, flush=True)

    def _set(self, module: Any, step: int) -> None:
        way = self.ways[step % len(self.ways)]
        module.diagnostics_every = 0 if way == "losses" else 1
        module.diagnostics = "sketch" if way == "sketch" else "exact"

    def counted(self) -> dict[str, list[float]]:
        """Return the seconds of each way and of the baseline, without the first round."""
        return {way: taken[1:] for way, taken in self.seconds.items()}

    def ratios(self) -> dict[str, list[float]]:
        """Return each way's time divided by that of the baseline in the same round."""
        counted = self.counted()
        beside = counted.pop(BESIDE)
        return {
            way: [ours / other for ours, other in zip(taken, beside, strict=True)]
            for way, taken in counted.items()
        }


def train(
    module: UnlearnModule,
    data: UnlearnDataModule,
    turns: Turns,
    steps: int,
    callbacks: Sequence[Callback] = (),
    make_logger: Callable[[str], Any] = lambda _: False,
) -> None:
    """Train for a number of steps on the CPU; nothing is kept."""
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator="cpu",
            max_steps=steps,
            precision=turns.precision,
            logger=make_logger(folder),
            log_every_n_steps=1,
            callbacks=[*callbacks, turns],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, data)


def batches_of(data: UnlearnDataModule, model: str) -> StepBatch:
    """Return the rows of the first step, without a trainer."""
    data.setup("fit")
    encoder = data.encoder(load_tokenizer(ModelSource(model)))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "preparation.json"
        found = prepare(data.objectives, data.examples, None, encoder, Gate(action="off"), store)
    data.set_rows(found.encoded, 0)
    return data.batch(data.plan().step(0))


def rows_of_table(
    seconds: Mapping[str, Sequence[float]], ratios: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Return a line for the baseline and for each way: median CPU seconds, and its ratios."""
    lines = [{"way": BESIDE, "CPU s": statistics.median(seconds[BESIDE]), **spread([1.0])}]
    for way, found in ratios.items():
        own = statistics.median(seconds[way]) if way in seconds else ""
        lines.append({"way": way, "CPU s": own, **spread(found)})
    return lines


def quiet() -> None:
    """Use one thread and the same random numbers in every run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
