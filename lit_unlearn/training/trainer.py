"""Lightning's Trainer with a precision that follows the device."""

from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT

from lit_unlearn.models.dtypes import multiplies_bfloat16, precision_for, times_slower_in_bfloat16

__all__ = ["UnlearnTrainer"]


class UnlearnTrainer(Trainer):
    """Lightning's Trainer; its `precision` may be `auto`.

    Args:
        precision: As for Lightning's Trainer, or `auto`: bf16-mixed where the device multiplies
            bfloat16 natively, else 32-true.
    """

    def __init__(
        self,
        *args: Any,
        accelerator: str = "auto",
        precision: _PRECISION_INPUT | Literal["auto"] | None = None,
        **kwargs: Any,
    ) -> None:
        # the kind of device that Lightning will choose
        on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
        self.precision_note = _note(precision, device)
        chosen = precision_for(device) if precision == "auto" else precision
        super().__init__(*args, accelerator=accelerator, precision=chosen, **kwargs)


def _note(precision: object, device: torch.device) -> str:
    """Return a line about the precision, empty where there is nothing to say."""
    native = multiplies_bfloat16(device)
    if precision == "auto":
        has = "multiplies" if native else "does not multiply"
        return f"Precision: {precision_for(device)} (this {device.type} {has} bfloat16 natively)."
    if not native and str(precision).startswith("bf16"):
        return (
            f"Precision: {precision} is emulated on this {device.type}: a matrix product takes "
            f"{times_slower_in_bfloat16(device):.0f} times as long in bfloat16 as in float32. "
            "Use --trainer.precision auto."
        )
    return ""
