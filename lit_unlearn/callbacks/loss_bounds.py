"""LossBounds: training ends before a runaway objective has ruined the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.training.step import StepRecord

__all__ = ["LossBounds"]

log = logging.getLogger(__name__)


class LossBounds(Callback):
    """Ends training when the loss of an objective has left its bounds.

    Gradient ascent has no lowest loss: left alone, it goes on until the model says nothing any
    more. What follows training (evaluation, export) is done as usual. The bounds are those of the
    losses as they are logged, `loss/<objective>`, so that of an ascent is a negative number.

    Args:
        lowest: The smallest loss allowed, by objective, for example {forget: -8}.
        highest: The largest loss allowed, by objective, for example {retain: 5}.
        patience: How many steps in a row a loss may lie outside before training ends, at least 1.
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
        """Steps in a row, by objective."""
        if not self.lowest and not self.highest:
            raise InputError(
                "Parameters `lowest` and `highest` of LossBounds should bound at least one "
                "objective. Found none; add for example {forget: -8}."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the names.

        Raises:
            InputError: There is no such objective.
        """
        known: Any = pl_module.objectives
        for name in {**self.lowest, **self.highest}:
            if name not in known:
                raise InputError(
                    f"LossBounds names the objective {name!r}, which should be one of "
                    f"{', '.join(known)}. Found no such objective; correct the name."
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the steps outside, and end training when there were enough."""
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
        """The counts."""
        return {"outside": self.outside}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take them up."""
        self.outside = dict(state_dict["outside"])
