"""Compare the cost of a step of four objectives with a plain fine-tuning step on the same tokens.

    OMP_NUM_THREADS=1 python benchmarks/step_cost.py
        [--model MODEL] [--data FOLDER] [--rows 4] [--repeats 3] [--context 3]
        [--teacher cached|bfloat16|float32] [--trainable PATTERN] [--out FILE.json]
    ... --memory plain|losses|sketch|exact|lora     # peak of one way, in this process alone

All rows, from TOFU, are in every step: forget and adversarial (with prefills, after a context that
only the teacher sees), neighbour, retain. The objectives are bidirectional distillation at all
answer positions. The plain step (`beside` in the table) is `cost.PlainStep`. Both optimise with
torch.optim.AdamW. With `--trainable` both train the parameters whose names match; ours then starts
above the stored trunk, and the plain step reads the trunk.

Our step is that of `Trainer.fit`, from the end of one step to the end of the next, including
batches, Lightning, TensorBoard and `GradientMonitor` (without heat maps). Each repeat runs all ways
in turn on the same rows: `losses` computes no Gramian, `sketch` and `exact` compute that of all
pairs and layer groups. Times are CPU seconds; a ratio is the median over repeats of a way's time
divided by the plain step's time in the same repeat.
"""

import argparse
import os
import tempfile
import warnings
from pathlib import Path

import torch
from cost import (
    MODEL,
    PRECISIONS,
    PlainStep,
    four_objectives,
    numbers,
    peak_gib,
    report,
    reset_peak,
    spread,
)
from lightning.pytorch.loggers import TensorBoardLogger
from script import run_script
from turns import Turns, batches_of, quiet, rows_of_table, train

from lit_unlearn.callbacks import GradientMonitor
from lit_unlearn.data.contexts import Demonstrations
from lit_unlearn.data.datamodule import StepBatch
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import LoRA, ModelSource, load_base
from lit_unlearn.objectives import Adversarial, BidirectionalDistillation
from lit_unlearn.teachers import AdapterOffTeacher, FrozenTeacher, Teacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate

PROJECT = Path(__file__).resolve().parents[1]
TIMED = ("losses", "sketch", "exact")


class PlainBeside(PlainStep):
    """The plain step on all rows of a step."""

    def __call__(self, batches: StepBatch) -> None:  # type: ignore[override]
        super().__call__([batch for parts in batches.values() for batch in parts])


def fit(args: argparse.Namespace, turns: Turns, steps: int, lora: LoRA | None = None) -> None:
    """Train for a number of steps."""
    patterns = None if args.trainable is None else [args.trainable]
    source = ModelSource(args.model, lora=lora, trainable=patterns)
    cache = str(args.cache) if args.teacher == "cached" else False
    dtype = "bfloat16" if args.teacher == "bfloat16" else None
    teacher: Teacher = (
        FrozenTeacher(dtype=dtype, cache=cache) if lora is None else (AdapterOffTeacher())
    )
    module = UnlearnModule(
        source,
        {
            "forget": BidirectionalDistillation(),
            "adversarial": Adversarial(BidirectionalDistillation()),
            "neighbor": BidirectionalDistillation(),
            "retain": BidirectionalDistillation(),
        },
        teacher,
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-5, weight_decay=0.0),
    )
    data = four_objectives(args.rows, Demonstrations(args.context), args.data)
    monitor = GradientMonitor(heat_map_every=0)
    train(module, data, turns, steps, [monitor], logger)


def logger(folder: str) -> TensorBoardLogger:
    """Return the logger of a run."""
    return TensorBoardLogger(folder, default_hp_metric=False)


def measure_time(args: argparse.Namespace) -> None:
    """Measure the time of all ways, and print the table."""
    ways = TIMED if args.teacher == "cached" and args.trainable is None else ("losses",)
    turns = Turns(ways, PlainBeside, args.precision)
    fit(args, turns, len(ways) * (args.repeats + 1))  # the first round does not count
    ratios = turns.ratios()
    if "exact" in ratios:
        pairs = zip(ratios["losses"], ratios["exact"], strict=True)
        ratios["exact, every 10 steps"] = [0.9 * often + 0.1 * once for often, once in pairs]
    seconds = turns.counted()
    record = {
        "teacher": args.teacher,
        "trainable": args.trainable,
        "precision": args.precision,
        "tokens": turns.tokens,
        "seconds": seconds,
        "ratios": {way: spread(found) for way, found in ratios.items()},
    }
    title = f"A step, {args.rows} rows of each objective, {turns.tokens}"
    report(title, rows_of_table(seconds, ratios), record, args.out)


def measure_memory(args: argparse.Namespace) -> None:
    """Measure the peak of two steps of one way, and print it."""
    way = args.memory
    if way == "plain":
        plain = PlainBeside(load_base(ModelSource(args.model)).train())
        data = four_objectives(args.rows, Demonstrations(args.context), args.data)
        batches = batches_of(data, args.model)
        reset_peak()
        with numbers(args.precision):
            plain(batches)
            plain(batches)
    else:
        lora = LoRA() if way == "lora" else None
        ways = ("losses" if way == "lora" else way,)
        fit(args, Turns(ways, precision=args.precision), 2, lora)
    found = {"way": way, "peak GiB": peak_gib()}
    report(f"Peak memory, {args.rows} rows of each objective", [found], found, args.out)


def main() -> None:
    """Measure time or memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--rows", type=int, default=4, help="rows of each objective in a step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--teacher", default="cached", choices=["cached", "bfloat16", "float32"])
    parser.add_argument("--precision", default="32-true", choices=PRECISIONS)
    parser.add_argument("--trainable", help="as in `model.student.trainable`, one pattern")
    parser.add_argument("--context", type=int, default=3, help="declined demonstrations")
    parser.add_argument("--memory", choices=["plain", *TIMED, "lora"])
    parser.add_argument("--cache", type=Path, default=Path("runs/step_cost/cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/step_cost/result.json"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning")
    quiet()
    args.model = find_model(args.model).name
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIT_UNLEARN_CACHE"] = folder  # for the stored trunk
        (measure_memory if args.memory else measure_time)(args)


if __name__ == "__main__":
    run_script(main)
