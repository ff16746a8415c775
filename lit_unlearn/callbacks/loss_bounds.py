"""LossBounds: training ends before the loss of one objective ruins the model."""

import logging
from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.training.step import StepRecord

__all__ = ["LossBounds"]

log = logging.getLogger(__name__)


class LossBounds(Callback):
    """End of training when the loss of an objective leaves its bounds.

    Gradient ascent has no lowest loss: without bounds, it continues until the model gives no
    answers any more. Evaluation and export follow as usual. The bounds apply to the logged losses,
    `loss/<objective>`, which are negative for gradient ascent.

    Args:
        lowest: Smallest loss allowed, by objective, for example {forget: -8}.
        highest: Largest loss allowed, by objective, for example {retain: 5}.
        patience: Number of steps in a row with a loss outside that ends training, at least 1.
    """

    def __init__(
        self,
        lowest: dict[str, float] | None = None,
        highest: dict[str, float] | None = None,
        patience: int = 1,
    ) -> None:
        check_number("patience", patience, 1)
        self.lowest = lowest or {}
        self.highest = highest or {}
        self.patience = patience
        self.outside: dict[str, int] = {}
        """Number of steps in a row outside the bounds, by objective."""
        if not self.lowest and not self.highest:
            raise InputError(
                "Parameters `lowest` and `highest` of LossBounds should bound at least one "
                "objective. Found none; add for example {forget: -8}."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the names of the objectives."""
        known: Any = pl_module.objectives
        for name in {**self.lowest, **self.highest}:
            if name not in known:
                raise InputError(
                    f"LossBounds names the objective {name!r}, which should be one of "
                    f"{', '.join(known)}. Found no such objective; correct the name."
                )

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Count the steps outside the bounds, and end training after `patience` in a row."""
        record: StepRecord = outputs
        for name, loss in record["losses"].items():
            low, high = self.lowest.get(name), self.highest.get(name)
            out = (low is not None and loss < low) or (high is not None and loss > high)
            self.outside[name] = self.outside.get(name, 0) + 1 if out else 0
            if self.outside[name] >= self.patience:
                log.warning(
                    "Training ends after step %d of %d: the loss of objective %s is %.4g, outside "
                    "of its bounds (%s to %s).",
                    *(trainer.global_step, trainer.max_steps, name, loss, low, high),
                )
                trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"outside": self.outside}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.outside = dict(state_dict["outside"])
