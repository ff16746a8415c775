"""Checks of a run for `fit`, which is not started; they need no device and no weights."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from lit_unlearn.callbacks import LossBounds
from lit_unlearn.cli.fit import UnlearnCLI, start
from lit_unlearn.cli.fit_forecast import run_work
from lit_unlearn.cli.forecasts import forecast_or_none
from lit_unlearn.planning.forecast import forecast
from lit_unlearn.planning.lengths import check_lengths
from lit_unlearn.planning.phases import Forecast
from lit_unlearn.planning.plan import TrainerSettings, local_device
from lit_unlearn.training.run_checks import check_run
from lit_unlearn.training.setup.checks import check_trainer

__all__ = ["CheckedRun", "checked", "main"]


class CheckedRun(UnlearnCLI):
    """Command line of `fit` that only creates and checks all parts of a run, on any machine."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Check the run instead of training."""
        model: Any = self.model
        check_run(self.trainer, model, self.datamodule)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, LossBounds):
                callback.setup(self.trainer, model, "fit")

    def _prepare(self, config: dict[str, Any]) -> None:
        """Replace the run's devices by processes on the CPU; nothing is opened or locked."""
        settings = self.settings
        check_trainer(str(settings.precision))
        count = settings.count() // settings.num_nodes
        config |= {"accelerator": "cpu", "devices": count, "precision": "32-true"}

    @property
    def settings(self) -> TrainerSettings:
        """The settings of the trainer that a plan depends on, as given."""
        given = self.config["fit"].trainer
        names = ("max_steps", "max_epochs", "devices", "num_nodes", "strategy")
        others = {name: getattr(given, name) for name in names}
        limit = given.limit_train_batches
        others["limit_train_batches"] = 1.0 if limit is None else limit
        return TrainerSettings(given.precision or "32-true", **others)


def checked(args: Sequence[str]) -> CheckedRun:
    """Return the run that `fit` would start with some options, after the checks of `fit`."""
    return start(CheckedRun, ["fit", *args])


def main(args: list[str]) -> None:
    """Check the runs of a sweep; standard input has a JSON list with the options of each run.

    The last line of the output is a JSON list with the expected seconds of the first run, and of
    a later run that finds results in the cache. The list is empty if they are unknown. The lengths
    of the rows are checked for the first run only, as that takes seconds.
    """
    runs = [checked(options) for options in json.load(sys.stdin)]
    for run in runs[:1]:
        check_lengths(run.model, run.datamodule)
    print(json.dumps(_seconds(runs[0]) if runs else []))


def _seconds(run: CheckedRun) -> list[float]:
    """Return the expected seconds of a run, and of a later run; empty if they are unknown."""
    device, precision = local_device(), run.settings.resolved_precision()

    def foresee() -> Forecast | None:
        run.datamodule.prepare_data()
        work = run_work(run.trainer, run.datamodule)
        return forecast(run.model, run.datamodule, work, precision=precision, device=device)

    found = forecast_or_none(foresee)
    return [] if found is None else [found.seconds, found.seconds_cached]
