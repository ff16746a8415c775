"""LmHarness: results of EleutherAI's lm-evaluation-harness as figures."""

import json
import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Subject,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import subject_outcomes
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.chat_template import template_arguments

__all__ = ["LmHarness", "figures_of"]

_NORMAL_95 = 1.959964  # half of a 95 % interval, in standard errors
_KEPT = ("results", "higher_is_better", "n-samples")


@dataclass
class LmHarness(Suite):
    """Tasks of EleutherAI's lm-evaluation-harness, an optional package (extra `lm-eval`).

    The harness (https://github.com/EleutherAI/lm-evaluation-harness) reads its data from the
    Hugging Face hub or the hub's cache, not from `data_root`, and defines its scores. The results
    of each task are stored as a whole, without rows; `limit` applies to a task's rows, `--limit`
    does not.

    Args:
        tasks: Names of tasks or groups, such as `arc_easy` (`lm-eval ls tasks` lists them).
        limit: Maximum number of rows of each task; null for all.
        shots: Number of examples before each question; null for the default of the task.
        chat_template: Use the tokenizer's chat template if it has one.
        batch_size: Rows per forward pass.
    """

    name: ClassVar[str] = "lm_harness"
    takes_condition: ClassVar[bool] = False

    tasks: list[str]
    limit: int | None = None
    shots: int | None = None
    chat_template: bool = True
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("Parameter `tasks` should name at least one task. Found none.")

    def probes(self, data_root: Path | None) -> list[Probe]:
        """Return one probe for each task; refuse a missing package."""
        _harness()
        return [
            Probe(task, task, Example(task, turns, "", "question_answer"), turns, plain=True)
            for task in dict.fromkeys(self.tasks)
            for turns in [(Turn("user", task),)]
        ]

    def answer(self, subject: Subject, probes: Probes) -> list[Outcome]:
        return [
            Outcome(probe.probe_id, replies=(self._run(subject, probe.probe_id),))
            for probe in probes
        ]

    def _run(self, subject: Subject, task: str) -> str:
        """Return the harness's results of one task as JSON."""
        harness, models = _harness()
        words: Any = copy(subject.tokenizer)
        given = template_arguments(words, subject.encoder.template)
        words.apply_chat_template = partial(words.apply_chat_template, **given)
        model = models.HFLM(pretrained=subject.model, tokenizer=words, batch_size=self.batch_size)
        found = harness.simple_evaluate(
            model,
            tasks=[task],
            num_fewshot=self.shots,
            batch_size=self.batch_size,
            limit=self.limit,
            log_samples=False,
            system_instruction=subject.encoder.template.system,
            apply_chat_template=self.chat_template and bool(subject.tokenizer.chat_template),
        )
        return json.dumps({key: found[key] for key in _KEPT if key in (found or {})}, default=str)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        pairs = subject_outcomes(probes, outcomes)
        return SuiteResult([], [f for _, o in pairs for f in figures_of(json.loads(o.replies[0]))])


def _harness() -> tuple[Any, Any]:
    try:
        return import_module("lm_eval"), import_module("lm_eval.models.huggingface")
    except ImportError as error:
        raise InputError(
            "The suite lm_harness needs the package lm-eval. It is not installed; install it with "
            "`pip install 'lit-unlearn[lm-eval]'`."
        ) from error


def figures_of(results: Mapping[str, Any]) -> list[Figure]:
    """Return the harness's results as figures, with normal intervals of 1.96 standard errors.

    The results are those of ``simple_evaluate``: ``results`` maps a task to ``metric,filter`` and
    ``metric_stderr,filter``; ``higher_is_better`` and ``n-samples`` may be missing. Each number
    gives a figure ``task/metric`` or ``task/metric.filter``.
    """
    ways = results.get("higher_is_better", {})
    sizes = results.get("n-samples", {})
    return [
        _figure(task, key, values, ways.get(task, {}), sizes.get(task, {}))
        for task, values in results.get("results", {}).items()
        for key, value in values.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float)
    ]


def _figure(
    task: str,
    key: str,
    values: Mapping[str, Any],
    ways: Mapping[str, bool | None],
    sizes: Mapping[str, int],
) -> Figure:
    metric, used_filter = key.split(",", maxsplit=1)
    value, error = float(values[key]), values.get(f"{metric}_stderr,{used_filter}")
    around = _NORMAL_95 * error if isinstance(error, int | float) else math.nan
    low, high = (None, None) if math.isnan(around) else (value - around, value + around)
    directions: dict[bool | None, Better] = {True: "higher", False: "lower", None: "neither"}
    name = metric if used_filter == "none" else f"{metric}.{used_filter}"
    count = int(sizes.get("effective", values.get("sample_len", 0)))
    better = directions[ways.get(metric)]
    return Figure(f"{task}/{name}", value, "as the harness defines it", count, low, high, better)
