"""Commands as processes: what is finished is not done again, what fails does not stop the rest."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from lit_unlearn.sweeping import jobs
from lit_unlearn.sweeping.jobs import LOG, STAMP, Job, is_finished, run_jobs

STAND_IN = """
import json, os, sys, time
folder, what = sys.argv[1:3]
begun = time.time()
print("it began")
if what == "fails":
    print("lit-unlearn: error: no such model")
    print("bye")
    sys.exit(2)
if what == "slow":
    time.sleep(0.5)
if what == "meets":  # goes on when a second job has begun, or after a minute
    open(os.path.join(folder, "begun"), "w").close()
    others = os.path.dirname(folder)
    while (
        sum(os.path.exists(os.path.join(others, n, "begun")) for n in os.listdir(others)) < 2
        and time.time() < begun + 60
    ):
        time.sleep(0.01)
if what != "silent":
    seen = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
    with open(os.path.join(folder, "result.json"), "w") as file:
        json.dump({"begun": begun, "ended": time.time(), **seen}, file)
"""


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", STAND_IN))


def job(folder: Path, what: str = "works", *more: str, inputs: tuple[Path, ...] = ()) -> Job:
    return Job(folder.name, folder, (str(folder), what, *more), "result.json", inputs)


def run(*given: Job, at_once: int = 1, gpus: tuple[str, ...] = ()) -> tuple[list[str], str]:
    text = io.StringIO()
    failures = run_jobs(given, at_once, gpus, Console(file=text, width=200))
    return [f"{failure.job.name}: {failure.reason}" for failure in failures], text.getvalue()


def begun(folder: Path) -> float:
    return float(json.loads((folder / "result.json").read_text("utf-8"))["begun"])


def test_failures_do_not_stop_the_others(tmp_path: Path) -> None:
    given = [job(tmp_path / name, name) for name in ("fails", "silent", "works")]
    failures, text = run(*given)
    assert failures == ["fails: no such model", "silent: it began"]
    assert (tmp_path / "works/result.json").exists()
    assert (tmp_path / "fails" / LOG).read_text("utf-8").splitlines()[-1] == "bye"
    assert "fails failed after" in text
    assert "works took" in text


def test_a_finished_job_is_not_run_again(tmp_path: Path) -> None:
    given = job(tmp_path / "a")
    run(given)
    first = begun(tmp_path / "a")
    failures, text = run(given)
    assert (failures, begun(tmp_path / "a")) == ([], first)
    assert "1 of 1 runs were finished before" in text


@pytest.mark.parametrize("change", ["arguments", "config", "input", "result", "stamp"])
def test_what_has_changed_is_run_again(tmp_path: Path, change: str) -> None:
    config, source = tmp_path / "a.yaml", tmp_path / "input"
    config.write_text("lr: 1", "utf-8")
    source.write_text("1", "utf-8")
    given = job(tmp_path / "a", "works", f"--config={config}", inputs=(source,))
    run(given)
    assert is_finished(given)
    if change == "arguments":
        given = job(tmp_path / "a", "works", f"--config={config}", "--lr=2", inputs=(source,))
    elif change == "config":
        config.write_text("lr: 2", "utf-8")
    elif change == "input":
        source.write_text("2", "utf-8")
    else:
        (tmp_path / "a" / ("result.json" if change == "result" else STAMP)).unlink()
    assert not is_finished(given)
    first = begun(tmp_path / "a") if change != "result" else 0.0
    run(given)
    assert begun(tmp_path / "a") > first


def test_a_job_that_fails_leaves_no_older_result(tmp_path: Path) -> None:
    run(job(tmp_path / "a"))
    failures, _ = run(job(tmp_path / "a", "fails"))
    assert failures
    assert not (tmp_path / "a/result.json").exists()


def test_jobs_share_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time: each has a GPU of its own and half of the cores, and the first two overlap."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(jobs, "cores", lambda: 6)
    folders = [tmp_path / name for name in "abc"]
    run(*(job(folder, "meets") for folder in folders), at_once=2, gpus=("4", "7"))
    found = [json.loads((folder / "result.json").read_text("utf-8")) for folder in folders]
    assert [entry["OMP_NUM_THREADS"] for entry in found] == ["3"] * 3
    assert {entry["CUDA_VISIBLE_DEVICES"] for entry in found[:2]} == {"4", "7"}
    assert found[2]["CUDA_VISIBLE_DEVICES"] in {"4", "7"}
    assert found[1]["begun"] < found[0]["ended"]
    assert found[2]["begun"] > min(entry["ended"] for entry in found[:2])


def test_an_interrupt_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = jobs.time.sleep

    def interrupt(seconds: float) -> None:  # the first time only: stopping sleeps as well
        monkeypatch.setattr(jobs.time, "sleep", sleep)
        raise KeyboardInterrupt

    stopped: list[int] = []
    stop = jobs._Pool.stop

    def watched(pool: jobs._Pool) -> None:
        processes = [running.process for running in pool.running]
        stop(pool)
        stopped.extend(process.returncode for process in processes)

    monkeypatch.setattr(jobs._Pool, "stop", watched)
    monkeypatch.setattr(jobs.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(job(tmp_path / "a", "slow"))
    assert stopped == [-15]
    assert not is_finished(job(tmp_path / "a", "slow"))


def test_an_evaluation_of_earlier_weights_is_removed(tmp_path: Path) -> None:
    """It would stand beside the new run's figures; that of a run that was cut off stays."""
    run(job(tmp_path / "a", "works", "--lr=1"))
    (tmp_path / "a/evaluation").mkdir()
    (tmp_path / "a" / STAMP).rename(tmp_path / "a/kept")
    run(job(tmp_path / "a", "works", "--lr=1"))
    assert (tmp_path / "a/evaluation").is_dir()
    run(job(tmp_path / "a", "works", "--lr=2"))
    assert not (tmp_path / "a/evaluation").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_what_was_started_ends_with_its_parent(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """As a cluster sends SIGTERM, to the parent alone; or after `kill -9`, on Linux."""
    child = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], "pid").write_text(str(os.getpid()))
time.sleep(60)
"""
    parent = f"""
import sys
from pathlib import Path
from lit_unlearn.sweeping import jobs
jobs.COMMAND = (sys.executable, "-S", "-c", {child!r})
folder = Path({str(tmp_path / "a")!r})
jobs.run_jobs([jobs.Job("a", folder, (str(folder),), "result.json")])
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.DEVNULL)
    written = tmp_path / "a/pid"
    until = time.monotonic() + 60
    while not (written.exists() and written.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) == status
    while is_alive(int(written.read_text())) and time.monotonic() < until:
        time.sleep(0.05)
    assert time.monotonic() < until


def is_alive(pid: int) -> bool:
    """Whether a process runs; not one that has ended and waits for its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
