"""Measure all ratios of cost of docs/performance.md in one run on this machine.

    OMP_NUM_THREADS=1 python benchmarks/ratios.py
        [--rows 4] [--repeats 3] [--only step,upper,graddiff,npo,npo_kl] [--folder runs/ratios]
        [options of all these benchmarks, such as --model, --data or --precision bf16-mixed]

- *step*: a step of four objectives divided by the plain step (`step_cost.py`): without diagnostics,
  with sketches, with the exact Gramian on every step and on every tenth.
- *upper*: the same with the last six of thirty blocks trained, above the stored trunk, divided by
  the plain step on the same blocks.
- *graddiff*, *npo*, *npo_kl*: time and peak memory of the jobs of `peer_jobs.py`, divided by those
  of open-unlearning's way of computing them.

Each is a separate process, in which both sides take turns on the same rows; memory is measured in
further processes. Nothing is compared with figures of another machine or another run. Each line of
the Markdown table is printed when it is known, and written to table.md. Times are CPU seconds on
one thread: other processes disturb them less than wall time, but use a quiet machine. By its FLOPs
it takes about 45 minutes of one AVX2 core (step 8, upper 2, the jobs 9, 10 and 13; the rest is
imports).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from script import run_script

HERE = Path(__file__).resolve().parent
UPPER = "layers[.]2[4-9][.]|model[.]norm"
"""Pattern of the weights that `configs/quickstart.yaml` trains."""
JOBS = {"graddiff": "GradDiff", "npo": "NPO", "npo_kl": "NPO with KL"}
AIMS = {
    "losses": 1.00,
    "sketch": 1.05,
    "exact": 1.15,
    "exact, every 10 steps": 1.05,
    "upper": 0.35,
    "graddiff": 0.55,
    "npo": 0.45,
    "npo_kl": 0.35,
    "memory": 0.5,
}
NAMES = {
    "losses": "no diagnostics",
    "sketch": "sketch on every step",
    "exact": "exact on every step",
}
HEADING = ["| measured | ratio | least to greatest | ours | baseline | aim |", "| --- " * 6 + "|"]


def ran(script: str, *options: str, out: Path) -> dict[str, Any]:
    """Run a benchmark, and return its record."""
    command = [sys.executable, str(HERE / script), *options, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return found


def times(found: dict[str, Any], title: str, aim: str | None = None) -> Iterator[str]:
    """Yield the lines of a benchmark of time."""
    seconds = {way: statistics.median(taken) for way, taken in found["seconds"].items()}
    for way, ratio in found["ratios"].items():
        name = NAMES.get(way, way)
        ours = f"{seconds[way]:.1f} s" if way in seconds else ""
        yield (
            f"| {title}{'' if aim else ', ' + name} | {ratio['median']:.2f} "
            f"| {ratio['least']:.2f} to {ratio['greatest']:.2f} | {ours} "
            f"| {seconds['beside']:.1f} s | {AIMS[aim or way]:.2f} |"
        )


def memory(job: str, folder: Path, further: Sequence[str]) -> str:
    """Return the line of a job's memory."""
    peaks = []
    for side in ("ours", "theirs"):
        options = (job, "--memory", side, *further)
        peaks.append(ran("peer_jobs.py", *options, out=folder / f"{job}_{side}.json")["peak GiB"])
    return (
        f"| {JOBS[job]}, peak memory | {peaks[0] / peaks[1]:.2f} | one run each "
        f"| {peaks[0]:.2f} GiB | {peaks[1]:.2f} GiB | {AIMS['memory']:.2f} |"
    )


def lines(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    folder, repeats = args.folder, ("--repeats", str(args.repeats), *args.further)
    shared = ("--rows", str(args.rows), *repeats, "--cache", str(folder / "cache"))
    if "step" in args.only:
        found = ran("step_cost.py", *shared, out=folder / "step.json")
        yield from times(found, f"four objectives, {args.rows} rows each")
    if "upper" in args.only:
        found = ran("step_cost.py", *shared, "--trainable", UPPER, out=folder / "upper.json")
        yield from times(found, "the last six blocks of thirty", "upper")
    for job in (job for job in JOBS if job in args.only):
        found = ran("peer_jobs.py", job, *repeats, out=folder / f"{job}.json")
        yield from times(found, f"{JOBS[job]}, time", job)
        yield memory(job, folder, args.further)


def main() -> None:
    """Measure the chosen ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    known = ["step", "upper", *JOBS]
    parser.add_argument("--rows", type=int, default=4, help="rows of each of the four objectives")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(known), help=f"some of {', '.join(known)}")
    parser.add_argument("--folder", type=Path, default=Path("runs/ratios"))
    args, args.further = parser.parse_known_args()
    args.only = args.only.split(",")
    if not set(args.only) <= set(known):
        parser.error(f"--only: expected some of {', '.join(known)}, found {', '.join(args.only)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    told = [*HEADING]
    print("\n".join(told), flush=True)
    for line in lines(args):
        told.append(line)
        print(line, flush=True)
        (args.folder / "table.md").write_text("\n".join(told) + "\n", "utf-8")


if __name__ == "__main__":
    run_script(main)
