"""Fill the disk at each write of a command, make room, and run the command again.

    OMP_NUM_THREADS=1 python benchmarks/full_disks.py --seed 0      # as root, on Linux

Each run has a separate disk in memory (tmpfs), which only root can mount. An unbroken run is
recorded first (`fault_process.py`). Then, for each kind of access to files, the disk becomes full
in one run at the first such access and in another at a random one, with nothing or a random amount
of room left. The command must end with one line that names the repair, or continue with a warning
(checkpoints). The files of the user must be unchanged, no incomplete file may have its final name,
and no temporary file may remain. With room again, the same command must give the result of the
unbroken run.

Then each command runs on a read-only disk, twice at the same time in one folder, and in two folders
with one cache.
"""

import argparse
import os
import random
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fault_checks import check_files, check_outcome, left_behind, put_mine, users_files
from fault_jobs import JOBS, Job
from fault_process import Access, Moment, Process, Unbroken, import_all, run_unbroken
from script import run_script

COMMANDS = ["training with a report", "evaluation", "rewriting", "task vector"]
_SIZE = 2**26
_BALLAST = "ballast.bin"
_CLEAR = "No space left on device; make room|the disk should have .* free"
_MOST_ROOM = 400_000
"""Maximum number of bytes that are left, about the size of a checkpoint."""


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """Mount a small disk."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def fill(folder: Path, room: int) -> None:
    """Fill a disk until `room` bytes are left."""
    found = os.statvfs(folder)
    size = found.f_bavail * found.f_frsize - room
    if size > 0:
        file = os.open(folder / _BALLAST, os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(file, 0, size)
        os.close(file)


def error_lines(said: str) -> list[str]:
    """Return the lines of an output that are errors or begin a traceback."""
    lines = said.splitlines()
    return [line for line in lines if re.match("lit-unlearn: error:|Traceback|Exception", line)]


def chosen_moments(unbroken: Unbroken, choose: random.Random) -> list[tuple[Moment, Access]]:
    """Choose two accesses of each kind: the first, and a random other one."""
    kinds: dict[tuple[str, ...], list[tuple[Moment, Access]]] = {}
    for phase in dict.fromkeys(access.phase for access in unbroken.accesses):
        for moment, access in unbroken.moments(phase):
            kind = (phase, access.event, re.sub(r"[0-9a-f]{6,}|\d+", "0", access.name))
            kinds.setdefault(kind, []).append((Moment(phase, moment.number), access))
    several = [members for members in kinds.values() if len(members) > 1]
    return [members[0] for members in kinds.values()] + [choose.choice(m[1:]) for m in several]


def fill_up(
    job: Job, unbroken: Unbroken, moment: Moment, room: int, folder: Path
) -> tuple[str, bool]:
    """Run a command whose disk becomes full, make room, and run it again.

    Returns:
        The line of the error, or "" if the command continued; and whether the disk became full.

    Raises:
        RuntimeError: See the head of this file.
    """
    put_mine(folder)
    arguments, mine = job.arguments(folder), users_files(folder)
    log = folder.with_name("output.log")
    status = Process(arguments, folder, moment, partial(fill, folder, room), log=log).wait()
    said, full = log.read_text("utf-8", "replace"), (folder / _BALLAST).exists()
    (folder / _BALLAST).unlink(missing_ok=True)
    errors = error_lines(said)
    clear = status == 2 and len(errors) == 1 and re.search(_CLEAR, errors[0]) is not None
    if not clear and (status != 0 or errors):
        raise RuntimeError(f"{job.name}, full at {moment}: {status}\n{said[-4000:]}")
    _check(folder, mine)
    if status == 2:
        again = Process(arguments, folder, log=log)
        if not job.succeeded(again.wait(), again.said()):
            raise RuntimeError(f"{job.name}, again after {moment}:\n{again.said()[-4000:]}")
        _check(folder, mine)
    check_outcome(job.outcome(folder), unbroken.outcome)
    return (errors[0].replace(str(folder), "") if errors else ""), full


def _check(folder: Path, mine: dict[str, str]) -> None:
    check_files(folder, mine)
    if left_behind(folder):
        raise RuntimeError(f"left behind {left_behind(folder)}")


def cannot_be_written(job: Job, folder: Path) -> str:
    """Run a command on a read-only disk, and return the line of its error.

    Raises:
        RuntimeError: The command ends in another way.
    """
    put_mine(folder)
    arguments, log = job.arguments(folder), folder.with_name("output.log")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    process = Process(arguments, folder, log=log)
    status, errors = process.wait(), error_lines(process.said())
    if status != 2 or len(errors) != 1 or "Read-only file system; take a folder" not in errors[0]:
        raise RuntimeError(f"{job.name}, read-only: {status}\n{process.said()[-4000:]}")
    return errors[0].replace(str(folder), "")


def both_at_once(job: Job, unbroken: Unbroken, folder: Path) -> str:
    """Start a command twice in one folder, and twice with one cache.

    Raises:
        RuntimeError: A run fails for another reason than the lock, or a result differs.
    """
    put_mine(folder)
    arguments, mine = job.arguments(folder), users_files(folder)
    pair = [Process(arguments, folder, log=folder.with_name(f"{n}.log")) for n in range(2)]
    statuses = [process.wait() for process in pair]
    for process, status in zip(pair, statuses, strict=True):
        errors = error_lines(process.said())
        locked = status == 2 and len(errors) == 1 and "at a time" in errors[0]
        if not locked and not job.succeeded(status, process.said()):
            raise RuntimeError(f"{job.name}, twice: {status}\n{process.said()[-4000:]}")
    if 0 not in statuses:
        raise RuntimeError(f"{job.name}, twice: none of them ended")
    _check(folder, mine)
    check_outcome(job.outcome(folder), unbroken.outcome)
    places = [folder / "first", folder / "second"]
    for place in places:
        place.mkdir()
    cache = folder / "both"
    pair = [
        Process(job.arguments(place), place, cache=cache, log=folder.with_name(f"{place.name}.log"))
        for place in places
    ]
    if [process.wait() for process in pair] != [0, 0]:
        raise RuntimeError(f"{job.name}, one cache: {[p.said()[-2000:] for p in pair]}")
    for place in places:
        check_outcome(job.outcome(place), unbroken.outcome)
    return f"{statuses.count(0)} of 2 in one folder, 2 of 2 with one cache"


def main() -> None:
    """Run all checks on every command, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=JOBS, default=COMMANDS)
    given = parser.parse_args()
    import_all()
    began = sum(os.times()[:4])
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.commands:
            job, root = JOBS[name], Path(scratch)
            choose = random.Random(f"{name} {given.seed}")
            unbroken = run_unbroken(job, root / f"unbroken {name}")
            moments = chosen_moments(unbroken, choose)
            counts: Counter[str] = Counter()
            for moment, access in moments:
                room = choose.choice([0, choose.randrange(_MOST_ROOM)])
                with disk(root / "disk") as folder:
                    line, full = fill_up(job, unbroken, moment, room, folder)
                counts["one line" if line else "went on" if full else "not reached"] += 1
                print(f"{name}: {moment.phase}, {access.event} {access.name}: {line}", flush=True)
            with disk(root / "disk") as folder:
                print(f"{name}, read-only: {cannot_be_written(job, folder)}", flush=True)
            with disk(root / "disk") as folder:
                print(f"{name}, at once: {both_at_once(job, unbroken, folder)}", flush=True)
            print(f"{name}: {len(moments)} full disks: {dict(counts)}", flush=True)
    print(f"all went on with the unbroken result; {sum(os.times()[:4]) - began:.0f} CPU seconds")


if __name__ == "__main__":
    run_script(main)
