"""Killed at random points, runs go on with the same command and end as if nothing had been.

The long version, and where its kills hit: benchmarks/kill_runs.py and docs/reliability.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.runs import kill_runs


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("training", 2),
        pytest.param("training", 6, marks=pytest.mark.slow),
        pytest.param("evaluation", 3, marks=pytest.mark.slow),
        pytest.param("rewriting", 2, marks=pytest.mark.slow),
    ],
)
def test_the_same_command_goes_on(tmp_path: Path, name: str, kills: int) -> None:
    places = kill_runs.kill_job(kill_runs.JOBS[name], kills, seed=3, folder=tmp_path, most=3)
    assert places.total() == kills


def test_what_is_half_is_noticed(tmp_path: Path) -> None:
    tmp_path.joinpath("rows.jsonl").write_text('{"a": 1}\n{"a"', "utf-8")
    with pytest.raises(RuntimeError, match=r"rows\.jsonl is half"):
        kill_runs.check_whole(tmp_path)
