"""Run commands of the package as processes, several at a time; finished ones are not repeated.

This file does not import torch; the processes do.
"""

import json
import os
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

from lit_unlearn.errors import InputError
from lit_unlearn.utils.children import END_WITH_PARENT
from lit_unlearn.utils.config_files import find_config
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.disk import writing
from lit_unlearn.utils.options import split_options
from lit_unlearn.utils.ownership import claim, clear, record, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.progress import Stage, duration, shown
from lit_unlearn.utils.tables import terminal
from lit_unlearn.utils.threads import chosen_by_user, cores

__all__ = ["COMMAND", "Failure", "Job"]
__all__ += ["check_fits", "is_finished", "job_files", "run_jobs", "stamp"]

COMMAND = (sys.executable, "-m", "lit_unlearn")
CHECK = (
    sys.executable,
    "-c",
    "import sys; from lit_unlearn.__main__ import Command, run_command;"
    "sys.exit(run_command(Command('', 'lit_unlearn.cli.checking:main'), ['sweep']))",
)
"""Command that checks runs of `fit`; see `cli.checking`."""
STAMP, LOG, EVALUATION = "job.json", "output.log", "evaluation"
"""Names in a job's folder: its arguments and inputs, its output, and the folder of evaluations."""
_POLL = 0.1
"""Seconds between two checks of the running processes."""
_ERROR = "lit-unlearn: error: "
_GRACE = 60.0
"""Seconds in which a stopped process may write a checkpoint."""


@dataclass(frozen=True)
class Job:
    """One command, and its folder."""

    name: str
    folder: Path
    arguments: tuple[str, ...]
    """Arguments of `lit-unlearn`, the command first."""
    result: str
    """File in the folder that the command writes."""
    inputs: tuple[Path, ...] = ()
    """Files on which the result depends, besides those after ``--config``."""
    figures: str = ""
    """Further file that the command may write; one of an earlier attempt is deleted."""


class Failure(NamedTuple):
    """A job whose process ended with an error or without a result."""

    job: Job
    reason: str


def job_files(job: Job) -> list[Path]:
    """Return the files that are replaced when a job starts."""
    return [job.folder / name for name in filter(None, (STAMP, LOG, job.result, job.figures))]


def stamp(job: Job) -> str:
    """Return the arguments of a job and the digests of its configs and inputs, as JSON."""
    options = [o for o in split_options(job.arguments) if o.name in ("--config", "-c")]
    configs = [find_config(local_path(option.value)) for option in options if option.value]
    files = [*configs, *job.inputs]
    content = {str(file): file_digest(file) if file.is_file() else None for file in files}
    return json.dumps({"arguments": list(job.arguments), "files": content}, indent=1)


def is_finished(job: Job) -> bool:
    """Return whether the result exists and was made with these arguments and files."""
    try:
        made_with = (job.folder / STAMP).read_text("utf-8")
    except OSError:
        return False
    return made_with == stamp(job) and (job.folder / job.result).is_file()


def check_fits(jobs: Sequence[Job]) -> list[float]:
    """Check in one process, before the first run starts, that `fit` would accept all runs.

    Returns:
        The expected seconds of each unfinished run; empty if they are unknown.

    Raises:
        InputError: `fit` would refuse a run.
    """
    options = [job.arguments[1:] for job in jobs if not is_finished(job)]
    if not options:
        return []
    done = subprocess.run(
        CHECK,
        input=json.dumps(options),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=END_WITH_PARENT,
    )
    if done.returncode:
        raise InputError(_reason(done.stderr, done.returncode))
    lines = done.stdout.splitlines()
    first, *again = json.loads(lines[-1]) or [0.0] if lines else [0.0]
    return [first, *(again * (len(options) - 1))] if first else []


# ---------------------------------------------------------------------------------------- running


def run_jobs(
    jobs: Iterable[Job],
    at_once: int = 1,
    gpus: Sequence[str] = (),
    console: Console | None = None,
    expected: Sequence[float] = (),
) -> list[Failure]:
    """Run all jobs that are not finished; a failure does not stop the others.

    The processes, `at_once` at a time, share the processor's cores, unless OMP_NUM_THREADS is set;
    each gets one of the `gpus` (names for CUDA_VISIBLE_DEVICES), if there are any. Progress is
    shown on the console, by default on the standard error stream. `expected` are the seconds of
    each unfinished run, for the time left. Failures are in the order in which they ended.
    """
    jobs = list(jobs)
    waiting = [job for job in jobs if not is_finished(job)]
    pool = _Pool(at_once, gpus)
    failures: list[Failure] = []
    console = console or terminal(stderr=True)
    before = len(jobs) - len(waiting)
    stage = Stage("finished", len(jobs), "runs", before)
    stage.expected = sum(expected) / max(len(gpus), 1)
    if len(expected) > 1:
        console.print(f"{len(waiting)} runs: {_times(expected)}; {duration(stage.expected)} in all")
    with _ended_by_sigterm(), shown(stage, console):
        if before:
            console.print(f"{before} of {len(jobs)} runs were finished before")
        try:
            while waiting or pool.running:
                while waiting and len(pool.running) < at_once:
                    pool.start(waiting.pop(0))
                for run in pool.ended():
                    seconds, reason = time.monotonic() - run.started, _finish(run)
                    if reason:
                        failures.append(Failure(run.job, reason))
                    stage.add()
                    how = "failed after" if reason else "took"
                    line = f"Run {stage.done} of {len(jobs)}: {run.job.name} {how}"
                    console.print(f"{line} {duration(seconds)}; {stage.left or 'all done'}")
                time.sleep(_POLL)
        finally:
            pool.stop()
    return failures


def _times(expected: Sequence[float]) -> str:
    """Return a text with the time of the first run, and of each other run."""
    first, again = map(duration, expected[:2])
    kept = "" if first == again else ", as the first fills the cache"
    return f"the first takes about {first}, the others {again} each{kept}"


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which clusters send, end this process and its children as Ctrl-C does."""

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


class _Running(NamedTuple):
    job: Job
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    gpu: str | None
    stamp: str
    """Stamp from the start of the job; later changes of its inputs are ignored."""
    started: float


class _Pool:
    def __init__(self, at_once: int, gpus: Sequence[str]) -> None:
        self.at_once = at_once
        self.gpus = list(gpus)
        self.running: list[_Running] = []

    def start(self, job: Job) -> None:
        """Start a job, after removing the result of an earlier attempt."""
        with writing(job.folder):
            job.folder.mkdir(parents=True, exist_ok=True)
        if (job.folder / STAMP).is_file():  # finished, with other settings
            clear(job.folder / EVALUATION)
        for name in filter(None, (STAMP, job.result, job.figures)):
            clear(job.folder / name)
        claim(job.folder / LOG)
        gpu = self.gpus.pop(0) if self.gpus else None
        environment = dict(os.environ)
        if not chosen_by_user():
            environment["OMP_NUM_THREADS"] = str(max(1, cores() // self.at_once))
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        log = (job.folder / LOG).open("wb")
        process = subprocess.Popen(
            [*COMMAND, *job.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C reaches only this process
            preexec_fn=END_WITH_PARENT,
        )
        self.running.append(_Running(job, process, log, gpu, stamp(job), time.monotonic()))

    def ended(self) -> list[_Running]:
        """Return the processes that have ended since the last call."""
        over = [run for run in self.running if run.process.poll() is not None]
        for run in over:
            self.running.remove(run)
            run.log.close()
            record(run.job.folder / LOG)
            if run.gpu is not None:
                self.gpus.append(run.gpu)
        return over

    def stop(self) -> None:
        """End the running processes with SIGTERM, at which training writes a checkpoint."""
        for run in self.running:
            run.process.terminate()
        until = time.monotonic() + _GRACE
        for run in self.running:
            try:
                run.process.wait(timeout=max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                run.process.kill()
            run.log.close()


def _finish(run: _Running) -> str:
    """Write the stamp of a finished job and return "", or return the error of a failed job."""
    folder, status = run.job.folder, run.process.returncode
    if status == 0 and (folder / run.job.result).is_file():
        write_text(folder / STAMP, run.stamp)
        return ""
    return _reason((folder / LOG).read_text("utf-8", errors="replace"), status)


def _reason(printed: str, status: int) -> str:
    """Return the error that a process printed, or its last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(_ERROR)]
    return (errors or lines or [f"exit status {status}"])[-1].removeprefix(_ERROR)
