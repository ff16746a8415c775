"""Kill runs in each phase, repeat their commands, and compare the results with unbroken runs.

    OMP_NUM_THREADS=1 python benchmarks/kill_runs.py --kills 100 --seed 0

A run is a process that gets SIGKILL at a moment of the chosen phase: at or after a random access to
files (`fault_process.py`). A kill counts for the phase of the last access before it. After each
kill the files of the user must be unchanged, and no incomplete file may have its final name. Then
the same command is run again, which must resume from the newest checkpoint. When a run has ended,
its weights, curves and tables must equal bit by bit those of the unbroken run in another folder,
and no temporary file may remain. The model is the random tiny one. Needs Linux, but no GPU.
"""

import argparse
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from fault_checks import check_files, check_outcome, left_behind, put_mine, users_files
from fault_jobs import JOBS, Job
from fault_process import Process, Unbroken, import_all, run_unbroken
from script import run_script

from lit_unlearn.callbacks.saved import UNFINISHED, newest_saved

PHASES = {
    "teacher cache": ("training", 0.15),
    "trunk cache": ("training", 0.14),
    "checkpoint": ("training", 0.18),
    "reports": ("training with a report", 0.05),
    "export": ("training", 0.15),
    "evaluation": ("evaluation", 0.14),
    "rewriting": ("rewriting", 0.14),
    "task vector": ("task vector", 0.05),
}
"""Phase -> command that is killed in it, and share of all kills."""
OF_REQUESTS = {
    "request: rows": ("request", 0.25),
    "request: evaluations": ("request", 0.25),
    "request: training": ("request", 0.15),
    "request: evidence": ("request", 0.35),
}
"""The same for `erase`, whose training is a process of its own; only if they are asked for."""
ALL = PHASES | OF_REQUESTS


def run_killed(
    job: Job, folder: Path, unbroken: Unbroken, phase: str, kills: int, choose: random.Random
) -> list[str]:
    """Kill a command at most `kills` times, then let it end, and compare its result.

    Returns:
        The phases in which it was killed.

    Raises:
        RuntimeError: It fails, changes a file of the user, leaves an incomplete file, does not
            resume from its checkpoint, or has another result than the unbroken run.
    """
    folder.mkdir(parents=True)
    put_mine(folder)
    arguments = job.arguments(folder)
    mine = users_files(folder)
    phases: list[str] = []
    while True:
        moment = unbroken.choose(phase, choose) if len(phases) < kills else None
        saved = newest_saved(folder / "run" / UNFINISHED)
        process = Process(arguments, folder, moment)
        status = process.wait()
        check_files(folder, mine)
        if status != -9:
            break
        phases.append(process.phase)
    if not job.succeeded(status, process.said()):
        raise RuntimeError(f"{job.name} ended with {status}:\n{process.said()[-5000:]}")
    if saved is not None and f"Resuming after step {saved.step} of" not in process.said():
        raise RuntimeError(f"{job.name} did not go on after step {saved.step}")
    check_outcome(job.outcome(folder), unbroken.outcome)
    if left_behind(folder):
        raise RuntimeError(f"{job.name}: left behind {left_behind(folder)}")
    return phases


def kill_job(
    job: Job, unbroken: Unbroken, phase: str, kills: int, seed: int, folder: Path, most: int = 4
) -> Counter[str]:
    """Kill a command in one phase until `kills` kills have hit it, in several runs.

    Args:
        job: The command.
        unbroken: Its run without a kill, in another folder.
        phase: The phase to hit.
        kills: Number of kills that must hit the phase.
        seed: Seed of the moments.
        folder: Folder of everything that is written.
        most: Maximum number of kills in one run.

    Returns:
        The number of kills that hit each phase.

    Raises:
        RuntimeError: See `run_killed`; or too many kills miss the phase.
    """
    choose = random.Random(f"{job.name} {phase} {seed}")
    phases: Counter[str] = Counter()
    for number in range(10 * kills):
        if phases[phase] >= kills:
            return phases
        run = folder / f"killed_{number}"
        wanted = min(most, kills - phases[phase])
        phases.update(run_killed(job, run, unbroken, phase, wanted, choose))
        print(f"{phase}: {phases[phase]} of {kills}", flush=True)
        shutil.rmtree(run)
    raise RuntimeError(f"{job.name}: only {phases} of {kills} kills in the phase {phase}")


def main() -> None:
    """Kill runs in every phase by its share, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phases", nargs="+", choices=ALL, default=list(PHASES))
    parser.add_argument("--folder", type=Path, default=None, help="kept if given")
    given = parser.parse_args()
    import_all()
    began, total = sum(os.times()[:4]), 0
    unbroken: dict[str, Unbroken] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = given.folder or Path(scratch)
        for phase in given.phases:
            name, share = ALL[phase]
            if name not in unbroken:
                unbroken[name] = run_unbroken(JOBS[name], root / f"unbroken {name}")
            kills = round(share * given.kills)
            found = kill_job(JOBS[name], unbroken[name], phase, kills, given.seed, root / phase)
            total += found[phase]
            others = dict((found - Counter({phase: found[phase]})).most_common())
            print(f"{phase}: {found[phase]} kills of {name}; missed it: {others}", flush=True)
    seconds = sum(os.times()[:4]) - began
    print(f"{total} kills; all runs ended with the unbroken result; {seconds:.0f} CPU seconds")


if __name__ == "__main__":
    run_script(main)
