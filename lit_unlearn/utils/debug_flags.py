"""Flags of Lightning's Trainer for runs that only test or debug the code."""

from collections.abc import Mapping
from typing import Any

__all__ = ["debug_flags"]

_OFF: dict[str, tuple[object, ...]] = {
    "fast_dev_run": (None, False, 0),
    "overfit_batches": (None, 0, 0.0),
    "limit_train_batches": (None, 1.0),  # 1 is one batch, 1.0 are all
    "limit_test_batches": (None, 1.0, 0, 0.0),
    "limit_predict_batches": (None, 1.0, 0, 0.0),
}
"""Debug flags, with the values that switch them off."""


def debug_flags(trainer: Mapping[str, Any]) -> list[str]:
    """Return the debug flags among the arguments of a trainer, such as `trainer.fast_dev_run`."""
    given = {name: trainer.get(name) for name in _OFF}
    return [
        f"trainer.{name}"
        for name, value in given.items()
        if not any(type(off) is type(value) and off == value for off in _OFF[name])
    ]
