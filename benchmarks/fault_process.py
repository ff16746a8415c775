"""A command in a forked process, with a fault at a chosen moment.

A moment is the k-th access to files in one phase, such as the teacher cache, plus a delay. Only
accesses that write count: opening a file for writing, renaming, creating, removing. An unbroken run
is recorded first, so that chosen moments exist and delays end before the next access. The process
notes each access in memory shared with its parent, so that the phase in which it died is known.
"""

import json
import mmap
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a forked process has only one thread
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from fault_checks import put_mine
from fault_jobs import Job, phase_of

import lit_unlearn
from lit_unlearn import __main__

_BUFFER = 4096
_BEHIND = 0.005
"""Maximum delay in seconds after the last access of a phase."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


@dataclass(frozen=True)
class Moment:
    """A moment in a run."""

    phase: str
    number: int
    """Number of the access among those of the phase, from 1."""
    delay: float = 0.0
    """Seconds after the access; 0 is the moment just before it."""


@dataclass(frozen=True)
class Access:
    """An access to files in an unbroken run."""

    phase: str
    event: str
    name: str
    """Name of the file."""
    gap: float
    """Seconds until the next access; at most `_BEHIND` if that is in another phase."""


def kill() -> None:
    """End the process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Process:
    """A command in a forked process with a new process group.

    Args:
        arguments: Arguments of `lit-unlearn`.
        folder: Folder of everything that is written, including cache and output.
        moment: Moment of the fault; None for no fault.
        happens: Function that the process calls at this moment.
        cache: The user's cache; None for a folder in `folder`.
        log: File of the output.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        moment: Moment | None = None,
        happens: Callable[[], None] = kill,
        *,
        cache: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.folder = folder
        self.cache = cache or folder / "cache"
        self.log = log or folder / "output.log"
        self.trace = self.log.with_suffix(".trace")
        self.shared = mmap.mmap(-1, _BUFFER)
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, moment, happens)

    def _run(
        self, arguments: list[str], moment: Moment | None, happens: Callable[[], None]
    ) -> None:
        status = 1
        try:
            os.setsid()
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
            os.environ["LIT_UNLEARN_CACHE"] = str(self.cache)
            accesses = self._watch(moment, happens)
            status = __main__.main(arguments)
            if moment is None:
                self.trace.write_text(json.dumps(accesses), "utf-8")
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _watch(self, moment: Moment | None, happens: Callable[[], None]) -> list[list[Any]]:
        """Note accesses to files, and call `happens` at the moment."""
        accesses: list[list[Any]] = []
        counts: dict[str, int] = {}
        phase = "other"

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal phase
            writes = event == "open" and bool((arguments[2] or 0) & _WRITING)
            if not writes and event not in _EVENTS:
                return
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
            if path.startswith("/"):  # a relative path is removed in the folder of the last access
                phase = phase_of(path, self.folder)
            counts[phase] = counts.get(phase, 0) + 1
            accesses.append([phase, event, Path(path).name, time.monotonic()])
            text = f"{phase}\0{path}".encode(errors="replace")[: _BUFFER - 1]
            self.shared[: len(text) + 1] = text + b"\0"
            if moment is not None and (phase, counts[phase]) == (moment.phase, moment.number):
                counts[phase] += 1  # `happens` may write too
                if moment.delay:
                    threading.Timer(moment.delay, happens).start()
                else:
                    happens()

        sys.addaudithook(hook)
        return accesses

    def wait(self) -> int:
        """Wait for the end of the process and return its status; -9 if it was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def phase(self) -> str:
        """The phase of the last access to files."""
        return self.shared[:].split(b"\0", 1)[0].decode() or "other"

    def said(self) -> str:
        """Return the output of the process."""
        return self.log.read_text("utf-8", errors="replace")


@dataclass(frozen=True)
class Unbroken:
    """The record of a run without a fault."""

    outcome: dict[str, Any]
    accesses: list[Access]

    def moments(self, phase: str) -> list[tuple[Moment, Access]]:
        """Return the moments of a phase, with a delay that ends before the next access."""
        own = [access for access in self.accesses if access.phase == phase]
        return [(Moment(phase, n, access.gap), access) for n, access in enumerate(own, start=1)]

    def choose(self, phase: str, choose: random.Random) -> Moment:
        """Choose a moment: with equal probability by access, or by time within the phase.

        Raises:
            RuntimeError: The run has no such phase.
        """
        moments = [moment for moment, _ in self.moments(phase)]
        if not moments:
            raise RuntimeError(f"the run writes nothing in the phase {phase}")
        by_access = choose.random() < 0.5
        weights = [1.0 if by_access else moment.delay + 1e-6 for moment in moments]
        chosen = choose.choices(moments, weights)[0]
        delay = choose.choice([0.0, choose.uniform(0, chosen.delay)])
        return Moment(phase, chosen.number, delay)


def run_unbroken(job: Job, folder: Path, log: Path | None = None) -> Unbroken:
    """Run a command to its end and record its accesses to files.

    Raises:
        RuntimeError: The command fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    put_mine(folder)
    process = Process(job.arguments(folder), folder, log=log)
    status = process.wait()
    if status:
        raise RuntimeError(f"{job.name} ended with {status}:\n{process.said()[-5000:]}")
    noted = json.loads(process.trace.read_text("utf-8"))
    accesses = []
    for (phase, event, name, when), after in zip(noted, [*noted[1:], noted[-1]], strict=True):
        gap = after[3] - when if after[0] == phase else min(after[3] - when, _BEHIND)
        accesses.append(Access(phase, event, name, gap))
    return Unbroken(job.outcome(folder), accesses)


def import_all() -> None:
    """Import everything that a command may need, once before the first fork."""
    for module in walk_packages(lit_unlearn.__path__, "lit_unlearn."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
