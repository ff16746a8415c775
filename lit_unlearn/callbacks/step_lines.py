"""StepLines: how far training is, as plain lines where no terminal shows a bar."""

from contextlib import ExitStack
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lit_unlearn.utils.progress import Stage, shown

__all__ = ["StepLines"]


class StepLines(Callback):
    """Writes a line at least every 30 seconds of training: steps done, and the time to come.

    Evaluations before the first step and after the last one have lines of their own.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._stage, self._first = Stage("training", None), 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin; steps from before a resume do not count for the time to come."""
        self._first = trainer.global_step
        self._stage = Stage("training", trainer.max_steps, "steps", self._first)
        self._open.enter_context(shown(self._stage))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self._stage.done = trainer.global_step
        if trainer.global_step == trainer.max_steps:
            self._open.close()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure the time from the first step on: an evaluation may come before it."""
        if self._stage.done == self._first:
            self._stage.begin()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open.close()

    def on_exception(self, *_: Any) -> None:
        self._open.close()
