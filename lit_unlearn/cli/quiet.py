"""Keep the terminal free of lines that users cannot act on."""

import logging
import threading
import warnings

from lit_unlearn.utils.disk import refusal

__all__ = ["silence"]


class _NoTips(logging.Filter):
    """Filter that drops Lightning's advertisements."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


_NO_TIPS = _NoTips()


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Report an error of a thread, except of the disk: TensorBoard raises it in the main thread."""
    if not isinstance(args.exc_value, Exception) or refusal(args.exc_value) is None:
        threading.__excepthook__(args)


def silence() -> None:
    """Suppress lines and warnings that users cannot act on."""
    threading.excepthook = _thread_failed
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_NO_TIPS)
    # Lightning 2.6 uses a name that torch 2.13 deprecated.
    warnings.filterwarnings("ignore", message=r".isinstance.treespec, LeafSpec")
    # peft asks transformers 5 by the name that transformers 4 had.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    # Lightning's table of the model's parts states sizes for whole precisions only.
    warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary")
