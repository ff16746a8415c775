"""A run for `fit`, checked as `fit` checks it and not started; no device or weights are needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from lit_unlearn.callbacks import LossBounds
from lit_unlearn.cli.fit import UnlearnCLI, start
from lit_unlearn.cli.saying import foreseen
from lit_unlearn.cli.time_to_come import around
from lit_unlearn.planning.forecast import forecast
from lit_unlearn.planning.phases import Forecast
from lit_unlearn.planning.plan import TrainerSettings, local_device
from lit_unlearn.training.run_checks import check_run
from lit_unlearn.training.setup.checks import check_trainer

__all__ = ["CheckedRun", "checked", "main"]


class CheckedRun(UnlearnCLI):
    """Command line of `fit` that makes and checks all parts of a run, on whatever machine."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Check the run instead of training."""
        model: Any = self.model
        check_run(self.trainer, model, self.datamodule)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, LossBounds):
                callback.setup(self.trainer, model, "fit")

    def _prepare(self, config: dict[str, Any]) -> None:
        """Ask for as many processors as the run has devices; nothing is opened or locked."""
        settings = self.settings
        check_trainer(str(settings.precision), settings.max_steps)
        count = settings.count() // settings.num_nodes
        config |= {"accelerator": "cpu", "devices": count, "precision": "32-true"}

    @property
    def settings(self) -> TrainerSettings:
        """The settings of the trainer on which a plan depends, as they were given."""
        given = self.config["fit"].trainer
        others = (given.max_steps, given.devices, given.num_nodes, given.strategy)
        return TrainerSettings(given.precision or "32-true", *others)


def checked(args: Sequence[str]) -> CheckedRun:
    """Return the run that `fit` would start with some options; refuse what it would refuse."""
    return start(CheckedRun, ["fit", *args])


def main(args: list[str]) -> None:
    """Check the runs of a sweep, whose options stand as JSON lists on the standard input.

    The last line of the output is a JSON list: the seconds that the first run takes, and those of
    another one that finds its results in the cache. It is empty where that is not known.
    """
    runs = [checked(options) for options in json.load(sys.stdin)]
    print(json.dumps(_seconds(runs[0]) if runs else []))


def _seconds(run: CheckedRun) -> list[float]:
    """Return the seconds of a run, and of another one after it; nothing for an unknown time."""
    device, precision = local_device(), run.settings.resolved_precision()

    def foresee() -> Forecast | None:
        run.datamodule.prepare_data()
        beside = around(run.trainer, run.datamodule)
        return forecast(run.model, run.datamodule, beside, precision=precision, device=device)

    found = foreseen(foresee)
    return [] if found is None else [found.seconds, found.seconds_cached]
