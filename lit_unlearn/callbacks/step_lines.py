"""StepLines: how far training is, as plain lines where no terminal shows a bar."""

from contextlib import ExitStack
from typing import Any

from lightning import Callback, Trainer

from lit_unlearn.utils.progress import Stage, shown

__all__ = ["StepLines"]


class StepLines(Callback):
    """Writes a line at least every 30 seconds of training: steps done, and the time to come.

    Evaluations before the first step and after the last one have lines of their own, and so has
    each validation.
    """

    def __init__(self) -> None:
        self._open, self._validating = ExitStack(), ExitStack()
        self._stage = Stage("training", None)
        self._batches = Stage("validation", None)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin with the first step, as an evaluation may come before it; earlier ones are done."""
        if self._stage.total is None:
            self._stage = Stage("training", trainer.max_steps, "steps", trainer.global_step)
            self._open.enter_context(shown(self._stage))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._stage.done = trainer.global_step
        if trainer.global_step == trainer.max_steps:
            self._open.close()

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        whole, sanity = trainer.num_val_batches, trainer.sanity_checking
        count = int(sum(trainer.num_sanity_val_batches if sanity else whole))
        self._batches = Stage("validation", count, "batches")
        self._validating.enter_context(shown(self._batches))

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self._batches.add()

    def on_validation_end(self, *_: Any) -> None:
        self._validating.close()

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.should_stop:
            self._open.close()

    def on_train_end(self, *_: Any) -> None:
        self._open.close()

    def on_exception(self, *_: Any) -> None:
        self._validating.close()
        self._open.close()
