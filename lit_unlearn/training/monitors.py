"""Monitors of EarlyStopping and ModelCheckpoint: known before training, checked at every step."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from lit_unlearn import log_names
from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.objectives import Objective
from lit_unlearn.utils.library_internals import look_at_epoch_end, look_now

__all__ = ["ANY", "MonitoredModule", "check_monitors", "monitors", "scalar_names"]

log = logging.getLogger(__name__)

ANY = "*"
"""Part of a name that is known only when the scalar is logged."""
_OWN, _LIGHTNING = __name__.partition(".")[0], "lightning"


class MonitoredModule(LightningModule):
    """LightningModule at whose steps EarlyStopping looks at the scalars that they logged.

    Lightning would let it look at the ends of epochs or validations, at which it looks here at
    scalars that no step has logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: set[str] = set()
        self._of_steps: set[str] = set()

    def log(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Log a scalar, and remember its name until the next step."""
        super().log(name, *args, **kwargs)
        self._logged.add(name)

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        self._logged.clear()

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Let EarlyStopping look at what the step has logged, its callbacks included."""
        if self.global_step == 1:
            _warn_of_monitors(self.trainer)
        self._of_steps |= self._logged
        _stop_early(self.trainer, self._logged)
        self._look_at_epoch_end(True)  # so that validations, which come now, are left out

    def on_train_epoch_end(self) -> None:
        self._look_at_epoch_end(False)
        _tell_of_stop(self.trainer)

    def _look_at_epoch_end(self, at_end: bool) -> None:
        """Set where EarlyStopping looks at scalars of steps, beside the steps."""
        for callback in self.trainer.early_stopping_callbacks:
            if callback.monitor in self._of_steps or callback.monitor.startswith("eval/"):
                look_at_epoch_end(callback, at_end)


def check_monitors(
    trainer: Trainer,
    objectives: Mapping[str, Objective],
    data: Any,
    validation: Iterable[str] = (),
) -> None:
    """Check before training that every monitor names a scalar that the run will log.

    ``validation`` are the names of the scalars of its validation.
    """
    found = dict(monitors(trainer))
    if not found:
        return
    own_callbacks = _of_callbacks(trainer, objectives, data)
    known = sorted({*scalar_names(objectives), *validation, *own_callbacks})
    for callback, monitor in found.items():
        own = ["step", "epoch"] if isinstance(callback, ModelCheckpoint) else []
        if not any(_fits(monitor, name) for name in [*known, *own]):
            hint = did_you_mean(monitor, known)
            raise InputError(
                f"Parameter `trainer.callbacks`: monitor of {type(callback).__name__} should name "
                f"a scalar of the run. Found {monitor!r}{'; ' * bool(hint)}{hint or '.'} The run "
                f"logs {', '.join(known)}."
            )


def scalar_names(objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Yield the names of a training step's scalars; those of a user's own class may be unknown."""
    yield log_names.LEARNING_RATE
    for name, objective in objectives.items():
        yield log_names.loss_name(name)
        own = type(objective).__module__.partition(".")[0] == _OWN
        for statistic in objective.statistics if own or objective.statistics else (ANY,):
            yield log_names.statistic_name(name, statistic)


def _warn_of_monitors(trainer: Trainer) -> None:
    """Warn after the first step of monitors that were not logged, which may come later."""
    for callback, monitor in monitors(trainer):
        known = trainer.callback_metrics
        if monitor not in {*known, "step", "epoch"} and not monitor.startswith(("eval/", "val/")):
            log.warning(
                "%s monitors %s, which was not logged in the first step. Logged were: %s.",
                *(type(callback).__name__, monitor, ", ".join(sorted(known))),
            )


def _stop_early(trainer: Trainer, logged: Collection[str]) -> None:
    """Let EarlyStopping look at monitors that this step has logged."""
    for callback in trainer.early_stopping_callbacks:
        if callback.monitor in logged:
            look_now(callback, trainer)


def _tell_of_stop(trainer: Trainer) -> None:
    """Tell why EarlyStopping ends the run: after a step, a validation or an epoch."""
    for callback in trainer.early_stopping_callbacks if trainer.should_stop else ():
        if callback.stopping_reason_message:
            log.warning(
                "Training ends after step %d of %d: %s",
                *(trainer.global_step, trainer.max_steps, callback.stopping_reason_message),
            )


def monitors(trainer: Any) -> Iterator[tuple[Callback, str]]:
    """Yield the callbacks that monitor a scalar, each with its name."""
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and callback.monitor is not None:
            yield callback, callback.monitor


def _of_callbacks(trainer: Any, objectives: Mapping[str, Objective], data: Any) -> Iterator[str]:
    """Yield the names that callbacks log; those of one's own callbacks are unknown."""
    for callback in trainer.callbacks:
        names: Any = getattr(callback, "scalar_names", None)
        if names is not None:
            yield from names(objectives, data)
        elif isinstance(callback, LearningRateMonitor):
            yield f"lr-{ANY}"
        elif type(callback).__module__.partition(".")[0] not in (_OWN, _LIGHTNING):
            yield ANY


def _fits(monitor: str, name: str) -> bool:
    """Return whether a monitor is a name, of which a part may be unknown."""
    start, unknown, end = name.partition(ANY)
    return monitor == name if not unknown else monitor.startswith(start) and monitor.endswith(end)
