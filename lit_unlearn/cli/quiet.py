"""Keep the terminal free of lines that users cannot act on."""

import logging
import threading
import warnings

from lit_unlearn.utils.disk import refusal

__all__ = ["silence"]


_DROPPED = (
    "GPU available:",
    "HPU available:",
    "LOCAL_RANK:",
    "Restored all states",
    "Restoring states",
    "Seed set to",
    "TPU available:",
    "`Trainer.fit` stopped: `max_",
)
"""Beginnings of Lightning's lines that say what the config or another line says."""

_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
)

_IGNORED = (
    # Lightning 2.6 uses a name that torch 2.13 deprecated.
    r".isinstance.treespec, LeafSpec",
    # peft asks transformers 5 by the name that transformers 4 had.
    "`is_gradient_checkpointing` is deprecated",
    # Lightning's table of the model's parts states sizes for whole precisions only.
    "Precision .* is not supported by the model summary",
    # Steps of the run are logged, however long an epoch is.
    "The number of training batches .* is smaller than the logging interval",
    # A checkpoint of manual optimisation is one after a step, which is what is wanted.
    "Using ModelCheckpoint with manual optimization",
    # Batches are small, and a moving teacher is in evaluation mode.
    "The '.*_dataloader' does not have many workers",
    r"Found \d+ module.* in eval mode at the start of training",
)
"""Warnings that users cannot act on."""


class _Needed(logging.Filter):
    """Drops Lightning's advertisements, and lines that repeat others."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return "Tip:" not in text and not text.startswith(_DROPPED)


_NEEDED = _Needed()


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Report an error of a thread, except of the disk: TensorBoard raises it in the main thread."""
    if not isinstance(args.exc_value, Exception) or refusal(args.exc_value) is None:
        threading.__excepthook__(args)


def silence() -> None:
    """Suppress lines and warnings that users cannot act on."""
    threading.excepthook = _thread_failed
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_NEEDED)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message=message)
