"""Several suites on one model, one after the other, with what each of them cost."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import transformers

from lit_unlearn import __version__
from lit_unlearn.evaluation.limited import Limited
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Row, Subject, Suite
from lit_unlearn.evaluation.records import SuiteRecord, settings_of
from lit_unlearn.evaluation.suite_run import run_suite

Reference = Mapping[str, Mapping[str, Sequence[Row]]]
"""Suite -> group -> rows of a retain model."""


def evaluate(
    suites: Mapping[str, Suite],
    subject: Subject,
    store: Store | None = None,
    data_root: Path | None = None,
    *,
    reference: Reference | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    progress: Callable[[SuiteRecord], None] = lambda record: None,
) -> dict[str, SuiteRecord]:
    """Put suites to a model.

    Args:
        suites: By the name under which their figures are shown.
        subject: The model.
        store: Keeps outcomes, so that a stopped evaluation continues; None keeps none.
        data_root: Folder that stands in for the hub.
        reference: Rows of a retain model; a suite without rows in it gets none.
        batch_size: Probes per forward pass.
        limit: Most rows of each group of a suite; None for all.
        progress: Told of each suite that is done.

    Returns:
        The suites' records, by name.

    Raises:
        InputError: Data that a suite cannot use, or a reference that does not fit it.
    """
    found: dict[str, SuiteRecord] = {}
    for name, suite in suites.items():
        wall, cpu = time.perf_counter(), time.process_time()
        result = run_suite(
            suite if limit is None else Limited(suite, limit),
            subject,
            store,
            data_root,
            (reference or {}).get(name),
            batch_size=batch_size,
        )
        found[name] = SuiteRecord(
            suite=name,
            settings=settings_of(suite),
            seconds=time.perf_counter() - wall,
            cpu_seconds=time.process_time() - cpu,
            rows=result.rows,
            figures=result.figures,
        )
        progress(found[name])
    return found


def check_suites(
    suites: Mapping[str, Suite],
    data_root: Path | None = None,
    reference: Reference | None = None,
    limit: int | None = None,
) -> None:
    """Say at once what is missing; arguments as in `evaluate`.

    Raises:
        InputError: Rows of a suite, or a reference that one needs, are missing or do not fit.
    """
    for name, suite in suites.items():
        asked = suite if limit is None else Limited(suite, limit)
        asked.check(asked.probes(data_root), (reference or {}).get(name))


def versions() -> dict[str, str]:
    """Of what decides the figures: package -> version."""
    return {
        "lit_unlearn": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
