"""Scripts of the folder `benchmarks`, and programs that stand in for what they start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import pytest

from lit_unlearn.sweeping import jobs
from tests.conftest import PROJECT


def benchmark(name: str) -> ModuleType:
    """Import a script."""
    folder = str(PROJECT / "benchmarks")
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module(name)


@contextmanager
def stand_in(program: str) -> Iterator[pytest.MonkeyPatch]:
    """Let a program in Python take the place of `lit-unlearn` in processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "COMMAND", (sys.executable, "-S", "-c", program))
        patch.setattr(jobs, "_POLL", 0.01)
        patch.setattr(jobs, "END_WITH_PARENT", None)  # a fork of the tests' large process is slow
        yield patch
