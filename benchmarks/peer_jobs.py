"""Compare the cost of three jobs of open-unlearning with its way of computing them.

    OMP_NUM_THREADS=1 python benchmarks/peer_jobs.py graddiff|npo|npo_kl
        [--model MODEL] [--data FOLDER] [--repeats 3] [--micro_batch_rows N]
        [--activation_checkpointing] [--out FILE.json]
    ... --memory ours|theirs                # peak of two steps, in this process alone

The jobs are GradDiff, NPO, and NPO with KL to the start model: 8 forget and 8 retain rows of TOFU
per step, float32, AdamW, no diagnostics. Ours is a step of `Trainer.fit`; the frozen reference
model is cached. Theirs (`beside` in the table) is `cost.PeerStep`. Both take turns in one run, on
the same rows, model and optimizer; the first round does not count. Times are CPU seconds; a ratio
is the median over repeats of our time divided by theirs in the same repeat. Beside the peak of
memory stand the memory of the process before the first step and the size of weights, one gradient
and AdamW's state; the rest is activations, logits and free blocks of the allocator.
"""

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path

from cost import MODEL, PRECISIONS, PeerStep, numbers, peak_gib, report, reset_peak, spread, tofu
from script import run_script
from turns import Turns, batches_of, quiet, rows_of_table, train

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.objectives import NPO, CrossEntropy, ForwardKL, GradientAscent, Objective
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate

PROJECT = Path(__file__).resolve().parents[1]
JOBS = ("graddiff", "npo", "npo_kl")
ROWS = 8


def objectives(job: str) -> dict[str, Objective]:
    """Return the objectives of a job."""
    forget: Objective = GradientAscent() if job == "graddiff" else NPO(beta=0.1)
    return {"forget": forget, "retain": ForwardKL() if job == "npo_kl" else CrossEntropy()}


def rows(args: argparse.Namespace) -> UnlearnDataModule:
    """Return the rows of a job."""
    return UnlearnDataModule(
        {
            "forget": ObjectiveData(tofu("forget10", ROWS), "decline", ROWS),
            "retain": ObjectiveData(tofu("retain90", ROWS), "answer", ROWS),
        },
        data_root=str(args.data),
        micro_batch_rows=args.micro_batch_rows,
    )


def fit(args: argparse.Namespace, turns: Turns, steps: int) -> float:
    """Train with `Trainer.fit`; return GiB of weights, one gradient and AdamW's state."""
    source = ModelSource(args.model, activation_checkpointing=args.activation_checkpointing)
    with tempfile.TemporaryDirectory() as folder:
        teacher = None if args.job == "graddiff" else FrozenTeacher(cache=folder)
        gate = Gate(action="off")
        module = UnlearnModule(source, objectives(args.job), teacher, gate=gate)
        train(module, rows(args), turns, steps)
    return 4 * sum(p.nbytes for p in module.parameters()) / 2**30


def measure_time(args: argparse.Namespace) -> None:
    """Measure the time of both sides, and print the table."""
    turns = Turns(beside=partial(PeerStep, args.job), precision=args.precision)
    fit(args, turns, args.repeats + 1)
    seconds, ratios = turns.counted(), turns.ratios()
    record = {
        "job": args.job,
        "precision": args.precision,
        "tokens": turns.tokens,
        "seconds": seconds,
        "ratios": {way: spread(found) for way, found in ratios.items()},
    }
    title = f"A step of {args.job}, 8 + 8 rows, {turns.tokens}"
    report(title, rows_of_table(seconds, ratios), record, args.out)


def measure_memory(args: argparse.Namespace) -> None:
    """Measure the peak of two steps of one side, and print it."""
    if args.memory == "ours":
        turns = Turns(precision=args.precision)
        fixed, before = fit(args, turns, 2), turns.before
    else:
        batches = batches_of(rows(args), args.model)
        model = load_base(ModelSource(args.model)).train()
        step = PeerStep(args.job, model)
        reset_peak()
        before = peak_gib()
        with numbers(args.precision):
            step(batches)
            step(batches)
        fixed = 4 * sum(p.nbytes for p in model.parameters()) / 2**30
    found = {
        "job": args.job,
        "way": args.memory,
        "peak GiB": peak_gib(),
        "before": before,
        "weights + gradient + AdamW": fixed,
    }
    report("Peak memory, 8 + 8 rows", [found], found, args.out)


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="32-true", choices=PRECISIONS, help="of both sides")
    parser.add_argument("--micro_batch_rows", type=int, help="ours, of the 8; for --memory ours")
    parser.add_argument("--activation_checkpointing", action="store_true", help="on both sides")
    parser.add_argument("--memory", choices=["ours", "theirs"])
    parser.add_argument("--out", type=Path, default=Path("runs/peer_jobs/result.json"))
    args = parser.parse_args()
    if args.micro_batch_rows is not None and args.memory != "ours":
        parser.error("--micro_batch_rows: expected with --memory ours only; PeerStep takes 8 rows")
    warnings.filterwarnings("ignore", module="lightning")
    quiet()
    args.model = find_model(args.model).name
    (measure_memory if args.memory else measure_time)(args)


if __name__ == "__main__":
    run_script(main)
