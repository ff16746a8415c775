"""The order in which callbacks end a run: first those that may still change the weights."""

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint

__all__ = ["CLEANUP", "EVALUATION", "EXPORT", "WEIGHTS", "order_end", "weights_change"]

WEIGHTS, EVALUATION, EXPORT, CLEANUP = 1, 2, 3, 4
"""Values of a callback's attribute `end_order`; a callback without it comes first."""
_CHECKPOINT = 5
"""Place of Lightning's checkpoints, which it keeps last itself."""


def order_end(trainer: Trainer) -> None:
    """Order a trainer's callbacks: what may change the weights, then what reads them at the end.

    `WeightAveraging` of Lightning, for example, writes the averaged weights into the model when
    training ends. The order of a config does not matter. Callbacks call this in `setup`.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    trainer.callbacks = sorted(callbacks, key=_place)  # type: ignore[attr-defined]


def weights_change(trainer: Trainer) -> bool:
    """Return whether a callback changes the weights after the last step.

    The model of the last step then needs no evaluation of its own.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(_place(callback) == WEIGHTS for callback in callbacks)


def _place(callback: Callback) -> int:
    if isinstance(callback, Checkpoint):
        return _CHECKPOINT
    place: int = getattr(callback, "end_order", 0)
    return place
