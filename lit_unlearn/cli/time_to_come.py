"""Say before the first long phase of a run what each phase will take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from lit_unlearn.callbacks import AnswerEvaluation, HuggingFaceExport, SuiteEvaluation
from lit_unlearn.callbacks.step_lines import StepLines
from lit_unlearn.cli.run_files import listed
from lit_unlearn.cli.saying import say
from lit_unlearn.planning.forecast import RunWork, SuiteSchedule, forecast

__all__ = ["around", "say_time_to_come", "with_lines"]


def say_time_to_come(trainer: Any, module: Any, data: Any, done: int = 0) -> None:
    """Print the phases of a run.

    Args:
        trainer: The trainer.
        module: The training module.
        data: The data module.
        done: Steps that were done before the run was resumed.
    """
    if not hasattr(module, "gate"):  # classes of tests and of one's own
        return
    precision, device = str(trainer.precision), trainer.strategy.root_device
    beside = around(trainer, data, done)
    say(lambda: forecast(module, data, beside, precision=precision, device=device))


def with_lines(config: dict[str, Any], callbacks: list[Any]) -> list[Any]:
    """Add lines about training to a run's callbacks where no terminal shows Lightning's bar."""
    own = any(isinstance(each, ProgressBar) for each in listed(config.get("callbacks")))
    if sys.stderr.isatty() or config.get("enable_progress_bar") or own:
        return callbacks
    config["enable_progress_bar"] = False
    return [*callbacks, StepLines()]


def around(trainer: Any, data: Any, done: int = 0) -> RunWork:
    """Return what a run does beside training; arguments as in `say_time_to_come`."""
    callbacks = trainer.callbacks
    replies = [c.batch_size for c in callbacks if isinstance(c, AnswerEvaluation | SuiteEvaluation)]
    return RunWork(
        steps=max(trainer.max_steps, 1),
        done=done,
        evaluations=[each for callback in callbacks for each in _asked(callback, data)],
        replies=max(replies, default=16),
        export=any(isinstance(callback, HuggingFaceExport) for callback in callbacks),
        folder=Path(trainer.default_root_dir),
    )


def _asked(callback: Any, data: Any) -> Iterator[SuiteSchedule]:
    """Yield the evaluations of a callback."""
    if isinstance(callback, AnswerEvaluation):
        yield SuiteSchedule({"evaluation": callback.suite(data)}, kept=True)
        if callback.samples_every:
            few = {"samples": callback.suite(data, callback.samples)}
            yield SuiteSchedule(few, before=False, after=False, every=callback.samples_every)
    if isinstance(callback, SuiteEvaluation):
        every, limit = callback.every_n_steps, callback.subsample
        yield SuiteSchedule(callback.suites, callback.at_start, callback.at_end, every, limit)
