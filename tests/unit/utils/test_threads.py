"""Threads: physical cores within the quota, unless the user says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lit_unlearn.utils.threads import chosen_by_user, cores, processor, settle_threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores of two threads each, of which the process may use seven threads."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    for number in range(8):
        folder = tmp_path / f"cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "wanted"), [("", 4), ("max 100000", 4), ("250000 100000", 2), ("5000 100000", 1)]
)
def test_cores(machine: Path, quota: str, wanted: int) -> None:
    if quota:
        (machine / "cpu.max").write_text(quota)
    assert cores(machine, machine) == wanted


def test_without_a_description_each_processor_counts(machine: Path) -> None:
    assert cores(machine / "none", machine) == 7


def test_what_the_user_sets_stays() -> None:
    given = {"OMP_NUM_THREADS": "77", "OMP_WAIT_POLICY": "ACTIVE"}
    before = dict(given)
    settle_threads(given)
    assert given == before
    assert chosen_by_user(given)
    empty: dict[str, str] = {}
    settle_threads(empty)
    assert empty == {"OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "PASSIVE"}
    assert not chosen_by_user(empty)
    assert processor()
