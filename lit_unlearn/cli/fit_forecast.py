"""Forecast of the time of a run, printed before its first long phase."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from lit_unlearn.callbacks import (
    AnswerEvaluation,
    HuggingFaceExport,
    SuiteEvaluation,
    WeightInterpolation,
)
from lit_unlearn.callbacks.step_lines import StepLines
from lit_unlearn.cli.forecasts import print_forecast
from lit_unlearn.cli.run_files import as_list
from lit_unlearn.data.epochs import run_steps
from lit_unlearn.planning.forecast import RunWork, SuiteSchedule, forecast
from lit_unlearn.training.validation import validated_rows

__all__ = ["print_fit_forecast", "run_work", "with_step_lines"]

_ASKING = AnswerEvaluation | SuiteEvaluation | WeightInterpolation
"""Callbacks that ask the model."""


def print_fit_forecast(trainer: Any, module: Any, data: Any, done: int = 0) -> None:
    """Print the expected time of each phase of a run.

    Args:
        trainer: The trainer.
        module: The training module.
        data: The data module.
        done: Steps that were done before the run was resumed.
    """
    if not hasattr(module, "gate"):  # a class of a test or of the user
        return
    precision, device = str(trainer.precision), trainer.strategy.root_device
    work = run_work(trainer, data, done)
    print_forecast(lambda: forecast(module, data, work, precision=precision, device=device))


def with_step_lines(config: dict[str, Any], callbacks: list[Any]) -> list[Any]:
    """Add progress lines to a run's callbacks if no terminal shows Lightning's progress bar."""
    shown = any(isinstance(each, ProgressBar) for each in as_list(config.get("callbacks")))
    if sys.stderr.isatty() or config.get("enable_progress_bar") or shown:
        return callbacks
    config["enable_progress_bar"] = False
    return [*callbacks, StepLines()]


def run_work(trainer: Any, data: Any, done: int = 0) -> RunWork:
    """Return steps, evaluations and export of a run; for the arguments see `print_fit_forecast`."""
    callbacks = trainer.callbacks
    replies = [c.batch_size for c in callbacks if isinstance(c, _ASKING)]
    steps = max(run_steps(trainer, data.epoch_steps()), 1)
    return RunWork(
        steps=steps,
        done=done,
        evaluations=[each for callback in callbacks for each in _schedules(callback, data)],
        validated=validated_rows(trainer, data, steps - done),
        replies=max(replies, default=16),
        export=any(isinstance(callback, HuggingFaceExport) for callback in callbacks),
        folder=Path(trainer.default_root_dir),
    )


def _schedules(callback: Any, data: Any) -> Iterator[SuiteSchedule]:
    if isinstance(callback, AnswerEvaluation):
        yield SuiteSchedule({"evaluation": callback.suite(data)}, kept=True)
        if callback.samples_every:
            few = {"samples": callback.suite(data, callback.samples)}
            yield SuiteSchedule(few, before=False, after=False, every=callback.samples_every)
    if isinstance(callback, WeightInterpolation):
        kept = callback.kept_at_least is not None
        kinds = ["decline", *["answer"] * kept]
        asked = {f"interpolation, {kind}": callback.suite(data, kind) for kind in kinds}
        yield SuiteSchedule(asked, before=False, times=callback.trials)
    if isinstance(callback, SuiteEvaluation):
        every, limit = callback.every_n_steps, callback.subsample
        yield SuiteSchedule(callback.suites, callback.at_start, callback.at_end, every, limit)
