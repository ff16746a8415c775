"""Commands of the package as processes: several at a time, resumable, with the time left.

Nothing here imports torch: the processes do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from rich.console import Console

from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.disk import writing
from lit_unlearn.utils.progress import Stage, shown

COMMAND = (sys.executable, "-m", "lit_unlearn")
STAMP, LOG, EVALUATION = "job.json", "output.log", "evaluation"
"""In a job's folder: with what it was finished, what it printed, and what others measured of it."""
_POLL = 0.1
"""Seconds between two looks at the running processes."""
_GRACE = 60.0
"""Seconds that a process has to write a checkpoint when it is stopped."""


@dataclass(frozen=True)
class Job:
    """One command in a folder of its own."""

    name: str
    folder: Path
    arguments: tuple[str, ...]
    """Of `lit-unlearn`, the subcommand first."""
    result: str
    """The file that the command writes last, in its folder."""
    inputs: tuple[Path, ...] = ()
    """Files on whose content the result depends, beside those after ``--config``."""


class Failure(NamedTuple):
    """A job whose process ended with an error, or without its result."""

    job: Job
    reason: str


def stamp(job: Job) -> str:
    """What a job depends on, as JSON: its arguments, and the content of its configs and inputs."""
    files = [*_configs(job.arguments), *job.inputs]
    content = {str(file): file_digest(file) if file.is_file() else None for file in files}
    return json.dumps({"arguments": list(job.arguments), "files": content}, indent=1)


def _configs(arguments: Sequence[str]) -> Iterator[Path]:
    """The files after ``--config``, ``--config=`` and ``-c``."""
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option in ("--config", "-c"):
            yield Path(value)
        elif option.startswith(("--config=", "-c=")):
            yield Path(option.partition("=")[2])


def is_finished(job: Job) -> bool:
    """Whether the result is there, and was made with these arguments and files."""
    try:
        made_with = (job.folder / STAMP).read_text("utf-8")
    except OSError:
        return False
    return made_with == stamp(job) and (job.folder / job.result).is_file()


# ---------------------------------------------------------------------------------------- running


def run_jobs(
    jobs: Iterable[Job],
    at_once: int = 1,
    gpus: Sequence[str] = (),
    console: Console | None = None,
) -> list[Failure]:
    """Run all jobs that are not finished yet; a failure does not stop the others.

    Args:
        jobs: The jobs, started in this order.
        at_once: How many processes run at a time. The processor's cores are shared out among them,
            unless OMP_NUM_THREADS says otherwise.
        gpus: Names of GPUs, as CUDA_VISIBLE_DEVICES takes them: each process gets one that no other
            one has. Empty leaves the choice to the processes.
        console: Where the progress is shown; None takes the standard error stream.

    Returns:
        The failures, in the order in which they ended.
    """
    jobs = list(jobs)
    waiting = [job for job in jobs if not is_finished(job)]
    pool = _Pool(at_once, gpus)
    failures: list[Failure] = []
    console = console or Console(stderr=True)
    before = len(jobs) - len(waiting)
    stage = Stage("finished", len(jobs), "runs", before)
    with _ended_by_sigterm(), shown(stage, console):
        if before:
            console.print(f"{before} of {len(jobs)} runs were finished before", highlight=False)
        try:
            while waiting or pool.running:
                while waiting and pool.free:
                    pool.start(waiting.pop(0))
                for ended in pool.ended():
                    if ended.failure is not None:
                        failures.append(ended.failure)
                    stage.add()
                    text = f"{_said(ended)}  {stage.state}"
                    console.print(text, highlight=False, markup=False)
                time.sleep(_POLL)
        finally:
            pool.stop()
    return failures


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, as a cluster sends it, ends this process and what it started like Ctrl-C does."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Ended(NamedTuple):
    job: Job
    seconds: float
    failure: Failure | None


def _said(ended: _Ended) -> str:
    how = "failed after" if ended.failure else "took"
    return f"{ended.job.name} {how} {ended.seconds:.0f} s"


class _Running(NamedTuple):
    job: Job
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    gpu: str | None
    stamp: str
    """As the job began: what changes while it runs does not count."""
    started: float


class _Pool:
    """The processes that run now."""

    def __init__(self, at_once: int, gpus: Sequence[str]) -> None:
        self.at_once = at_once
        self.gpus = list(gpus)
        self.running: list[_Running] = []

    @property
    def free(self) -> bool:
        """Whether one more process may start."""
        return len(self.running) < self.at_once

    def start(self, job: Job) -> None:
        """Start a job in a clean state: what an earlier attempt left does not count."""
        with writing(job.folder):
            job.folder.mkdir(parents=True, exist_ok=True)
        if (job.folder / STAMP).is_file():  # finished, with other settings
            shutil.rmtree(job.folder / EVALUATION, ignore_errors=True)
        for name in (STAMP, job.result):
            (job.folder / name).unlink(missing_ok=True)
        gpu = self.gpus.pop(0) if self.gpus else None
        log = (job.folder / LOG).open("wb")
        process = subprocess.Popen(
            [*COMMAND, *job.arguments],
            env=self._environment(gpu),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C reaches this process alone
        )
        self.running.append(_Running(job, process, log, gpu, stamp(job), time.monotonic()))

    def _environment(self, gpu: str | None) -> dict[str, str]:
        threads = max(1, (os.cpu_count() or 1) // self.at_once)
        shared = {"OMP_NUM_THREADS": str(threads), **os.environ}
        return shared if gpu is None else {**shared, "CUDA_VISIBLE_DEVICES": gpu}

    def ended(self) -> list[_Ended]:
        """The jobs that ended since the last look."""
        over = [run for run in self.running if run.process.poll() is not None]
        for run in over:
            self.running.remove(run)
            run.log.close()
            if run.gpu is not None:
                self.gpus.append(run.gpu)
        return [_outcome(run) for run in over]

    def stop(self) -> None:
        """End what still runs, by one signal, at which training writes a checkpoint."""
        for run in self.running:
            run.process.terminate()
        until = time.monotonic() + _GRACE
        for run in self.running:
            try:
                run.process.wait(timeout=max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                run.process.kill()
            run.log.close()


def _outcome(run: _Running) -> _Ended:
    job, seconds = run.job, time.monotonic() - run.started
    if run.process.returncode == 0 and (job.folder / job.result).is_file():
        write_text(job.folder / STAMP, run.stamp)
        return _Ended(job, seconds, None)
    reason = _last_words(job.folder / LOG) or f"exit status {run.process.returncode}"
    return _Ended(job, seconds, Failure(job, reason))


def _last_words(log: Path) -> str:
    """The error that a process printed, or else its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    said = [line for line in lines if line.startswith("lit-unlearn: error: ")]
    return (said or lines or [""])[-1].removeprefix("lit-unlearn: error: ")
