"""Killed at random moments, runs go on with the same command and end as if nothing had been.

The long version, and where its kills hit: benchmarks/kill_runs.py and docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.requests import dossier
from lit_unlearn.requests.evidence import write_evidence
from lit_unlearn.requests.ledger import read_ledger
from lit_unlearn.requests.manifest import build_manifest, read_manifest
from lit_unlearn.requests.verify import verify
from lit_unlearn.utils.digests import file_digest, json_digest
from lit_unlearn.utils.plain_json import nan_to_null
from tests.benchmark_scripts import benchmark
from tests.faults.runs import jobs
from tests.processes import FORKED, forked
from tests.unit.requests.evidence import make_request

kill_runs, process = benchmark("kill_runs"), benchmark("fault_process")
files = benchmark("fault_checks")


@pytest.mark.parametrize(
    ("phase", "kills"),
    [
        ("checkpoint", 2),
        *(pytest.param(phase, 2, marks=pytest.mark.slow) for phase in kill_runs.ALL),
    ],
)
def test_the_same_command_goes_on(tmp_path: Path, phase: str, kills: int) -> None:
    job = jobs.JOBS[kill_runs.ALL[phase][0]]
    unbroken = process.run_unbroken(job, tmp_path / "unbroken")
    found = kill_runs.kill_job(job, unbroken, phase, kills, 3, tmp_path)
    assert found[phase] == kills


def test_what_is_half_is_noticed(tmp_path: Path) -> None:
    tmp_path.joinpath("rows.jsonl").write_text('{"a": 1}\n{"a"', "utf-8")
    with pytest.raises(RuntimeError, match=r"rows\.jsonl is half"):
        files.check_whole(tmp_path)


def test_a_changed_file_of_the_user_is_noticed(tmp_path: Path) -> None:
    files.put_mine(tmp_path)
    before = files.users_files(tmp_path)
    (tmp_path / files.MINE[1]).write_text("changed", "utf-8")
    (tmp_path / files.MINE[2]).unlink()
    changed = before.items() ^ files.users_files(tmp_path).items()
    assert {name for name, _ in changed} == set(files.MINE[1:3])


def killed_at_a_new_access(folder: Path, seen: Path, work: Callable[[], object]) -> int:
    """Do work in a process that is killed before the first write that no earlier one was killed at.

    Returns:
        The exit status: 0 if there was none any more.
    """
    known = set(seen.read_text("utf-8").splitlines())
    descriptor = os.open(seen, os.O_WRONLY | os.O_APPEND)
    counts: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        if not (writes or event in ("os.rename", "os.remove")) or not isinstance(arguments[0], str):
            return
        name = re.sub("[0-9a-f]{16}", "", arguments[0])
        counts[name] += event == "os.rename"
        access = f"{event} {name} {counts[name]}"
        if str(folder) in access and access not in known:
            os.write(descriptor, f"{access}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> int:
        sys.addaudithook(hook)
        work()
        return 0

    return forked(run)


@FORKED
def test_evidence_is_complete_after_a_kill_at_each_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Salt, dossier, manifest, ledger and its head: the same call ends with the same evidence."""
    place, ledger, seen = make_request(tmp_path / "ada"), tmp_path / "ledger.jsonl", tmp_path / "s"
    seen.touch()
    monkeypatch.setattr(dossier, "_pictures", lambda *_: {})  # drawing takes long
    kills = 0
    while killed_at_a_new_access(tmp_path, seen, lambda: write_evidence(place.root, ledger)):
        files.check_whole(tmp_path)
        kills += 1
    assert kills > 15
    assert all(each.is_sound for each in verify(place.root))
    (entry,) = read_ledger(ledger)
    assert entry.manifest == file_digest(place.manifest)
    written = read_manifest(place.manifest)
    assert written.pop("dossier")
    assert json_digest(written) == json_digest(nan_to_null(build_manifest(place.root)))
    assert json.loads((tmp_path / "ledger.jsonl.head").read_bytes())["next"] == ""
    assert not [*tmp_path.rglob("*.part*")]
