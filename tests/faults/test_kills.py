"""Killed at random moments, runs go on with the same command and end as if nothing had been.

The long version, and where its kills hit: benchmarks/kill_runs.py and docs/reliability.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark_scripts import benchmark
from tests.faults.runs import jobs

kill_runs, process = benchmark("kill_runs"), benchmark("fault_process")


@pytest.mark.parametrize(
    ("phase", "kills"),
    [
        ("checkpoint", 2),
        *(pytest.param(phase, 2, marks=pytest.mark.slow) for phase in kill_runs.PHASES),
    ],
)
def test_the_same_command_goes_on(tmp_path: Path, phase: str, kills: int) -> None:
    job = jobs.JOBS[kill_runs.PHASES[phase][0]]
    unbroken = process.run_unbroken(job, tmp_path / "unbroken")
    found = kill_runs.kill_job(job, unbroken, phase, kills, 3, tmp_path)
    assert found[phase] == kills


def test_what_is_half_is_noticed(tmp_path: Path) -> None:
    tmp_path.joinpath("rows.jsonl").write_text('{"a": 1}\n{"a"', "utf-8")
    with pytest.raises(RuntimeError, match=r"rows\.jsonl is half"):
        jobs.check_whole(tmp_path)


def test_a_changed_file_of_the_user_is_noticed(tmp_path: Path) -> None:
    jobs.put_mine(tmp_path)
    before = jobs.users_files(tmp_path)
    (tmp_path / jobs.MINE[1]).write_text("changed", "utf-8")
    (tmp_path / jobs.MINE[2]).unlink()
    changed = before.items() ^ jobs.users_files(tmp_path).items()
    assert {name for name, _ in changed} == set(jobs.MINE[1:3])
