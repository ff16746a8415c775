"""Say before the first long phase of a run what each phase will take."""

from __future__ import annotations

import logging
import sys
from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from lit_unlearn.callbacks import AnswerEvaluation
from lit_unlearn.callbacks.step_lines import StepLines
from lit_unlearn.cli.run_files import listed
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import load_tokenizer
from lit_unlearn.planning.forecast import forecast
from lit_unlearn.planning.phases import Asked, Evaluated
from lit_unlearn.utils.tables import terminal

__all__ = ["asked_in", "say_time_to_come", "with_lines"]

log = logging.getLogger(__name__)


def say_time_to_come(trainer: Any, module: Any, data: Any) -> None:
    """Print the phases of a run, unless it takes seconds or cannot be planned."""
    if not hasattr(module, "gate"):  # classes of tests and of one's own
        return
    precision = str(trainer.precision)
    device = trainer.strategy.root_device
    try:
        asked = asked_in(trainer, module, data)
        steps = max(trainer.max_steps, 1)
        found = forecast(module, data, steps, asked, precision=precision, device=device)
    except InputError as error:
        log.debug("No forecast: %s", error)
        return
    if found is not None:
        terminal(stderr=True).print(found)


def with_lines(config: dict[str, Any], callbacks: list[Any]) -> list[Any]:
    """Add lines about training to a run's callbacks where no terminal shows Lightning's bar."""
    own = any(isinstance(each, ProgressBar) for each in listed(config.get("callbacks")))
    if sys.stderr.isatty() or config.get("enable_progress_bar") or own:
        return callbacks
    config["enable_progress_bar"] = False
    return [*callbacks, StepLines()]


def asked_in(trainer: Any, module: Any, data: Any) -> Asked:
    """Return what `AnswerEvaluation` asks; None without it, or where no tokenizer can be read."""
    for callback in trainer.callbacks:
        if isinstance(callback, AnswerEvaluation):
            try:
                encoder = Encoder(load_tokenizer(module.source), data.max_length, "warn")
            except InputError:
                return None
            openers = {n for n, own in data.objectives.items() if own.evaluation_prefills}
            most = callback.max_new_tokens
            return Evaluated(encoder, data.evaluation, frozenset(openers), most)
    return None
