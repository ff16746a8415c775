"""Threads of a process: one for each usable core; they sleep while they wait.

By default OpenMP's threads spin while they wait for each other. If another process uses a core,
they spin for a whole time slice: on two busy cores, decoding with SmolLM2-135M took 71 CPU seconds
with two threads that spin, 10 with two that sleep, and 6.5 with one thread.
"""

import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["chosen_by_user", "cores", "processor", "settle_threads"]

_COUNT, _WAIT = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"
_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_settled: list[str] = []
"""Value of OMP_NUM_THREADS that this process has set."""


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the threads of libraries that are loaded later; keep what the user has set."""
    environment.setdefault(_WAIT, "PASSIVE")
    if _COUNT not in environment:
        environment[_COUNT] = str(cores())
        _settled[:] = [environment[_COUNT]]


def chosen_by_user(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Return whether the user has set the number of threads."""
    return environment.get(_COUNT, "") not in ("", *_settled)


def cores(cpus: Path = _CPUS, cgroup: Path = _CGROUP) -> int:
    """Return the number of physical cores that this process may use, by affinity and cgroup quota.

    `cpus` and `cgroup` are the folders in which Linux describes processors and control group.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    own = affinity(0) if affinity is not None else range(os.cpu_count() or 1)
    siblings = {_read(cpus / f"cpu{n}/topology/thread_siblings_list") or str(n) for n in own}
    quota, *period = _read(cgroup / "cpu.max").split() or ["max"]
    if not period or not quota.isdigit():
        return len(siblings)
    return max(1, min(len(siblings), int(quota) // int(period[0])))


def processor() -> str:
    """Return the name of the processor."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except OSError:
        return ""
