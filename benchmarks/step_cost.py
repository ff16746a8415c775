"""What does a step of four objectives cost beside a plain fine-tuning step on the same tokens?

    OMP_NUM_THREADS=1 python benchmarks/step_cost.py
        [--model MODEL] [--data FOLDER] [--rows 4] [--repeats 3] [--context 3]
        [--teacher cached|bfloat16|float32] [--out FILE.json]
    ... --memory plain|losses|sketch|exact|lora     # peak of one way, in this process alone

Rows of TOFU, all of them in every step: forget and adversarial (prefilled, behind a context that
the teacher alone sees), neighbour, retain. Objectives: bidirectional distillation at all answer
positions. The plain step is `cost.PlainStep`. Both optimise with torch.optim.AdamW as it comes.

Our step is that of `Trainer.fit`, from one step's end to the next: batches, Lightning, TensorBoard
and `GradientMonitor` (without heat maps) included. Ways, in turn within each repeat, each on the
same rows: `losses` takes no Gramian, `sketch` and `exact` take that of all pairs and layer groups.
CPU seconds; a ratio is the median over repeats of a way's time by the plain step's of that repeat.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from cost import MODEL, PlainStep, four_objectives, peak_gib, report, reset_peak, spread, tokens_of
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lit_unlearn.callbacks import GradientMonitor
from lit_unlearn.data.contexts import Demonstrations
from lit_unlearn.models.loading import LoRA, ModelSource, load_base
from lit_unlearn.objectives import Adversarial, BidirectionalDistillation
from lit_unlearn.teachers import AdapterOffTeacher, FrozenTeacher, Teacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import TokenBatch

PROJECT = Path(__file__).resolve().parents[1]
TIMED = ("losses", "sketch", "exact")


class Turns(Callback):
    """Makes each step another way, and the plain step before each round of ways.

    Args:
        ways: Of `TIMED`.
        beside: Whether the plain step is made too, with the same model and optimizer.
    """

    def __init__(self, ways: tuple[str, ...], *, beside: bool) -> None:
        self.ways = ways
        self.beside = beside
        self.plain: PlainStep | None = None
        self.seconds: dict[str, list[float]] = {way: [] for way in (*ways, "plain")}
        self.tokens: dict[str, int] = {}
        self.mark = time.process_time()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Set up for the first way."""
        reset_peak()
        if self.beside:
            self.plain = PlainStep(pl_module.student, trainer.optimizers[0])
        self._set(pl_module, 0)
        self.mark = time.process_time()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: dict[str, list[TokenBatch]], batch_idx: int
    ) -> None:
        """The time since the mark was for the batch; then the plain step, whose time is its own."""
        fetched = time.process_time() - self.mark
        batches = [part for parts in batch.values() for part in parts]
        self.tokens = tokens_of(batches)
        if self.plain is not None and batch_idx % len(self.ways) == 0:
            start = time.process_time()
            self.plain(batches)
            self._note("plain", time.process_time() - start)
        self.mark = time.process_time() - fetched

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time, and set up for the next way."""
        way = self.ways[batch_idx % len(self.ways)]
        self._note(way, time.process_time() - self.mark)
        self._set(pl_module, batch_idx + 1)
        self.mark = time.process_time()

    def _note(self, way: str, seconds: float) -> None:
        self.seconds[way].append(seconds)
        print(f"{way}: {seconds:.2f} CPU s", file=sys.stderr, flush=True)

    def _set(self, module: Any, step: int) -> None:
        way = self.ways[step % len(self.ways)]
        module.diagnostics_every = 0 if way == "losses" else 1
        module.diagnostics = "sketch" if way == "sketch" else "exact"


def fit(args: argparse.Namespace, turns: Turns, steps: int, lora: LoRA | None = None) -> None:
    """Train for so many steps."""
    source = ModelSource(args.model, lora=lora)
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
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=1,
            logger=TensorBoardLogger(folder, default_hp_metric=False),
            log_every_n_steps=1,
            callbacks=[GradientMonitor(heat_map_every=0), turns],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, data)


def measure_time(args: argparse.Namespace) -> None:
    """Time all ways, and print."""
    ways = TIMED if args.teacher == "cached" else ("losses",)
    turns = Turns(ways, beside=True)
    fit(args, turns, len(ways) * (args.repeats + 1))  # the first round does not count
    seconds = {way: taken[1:] for way, taken in turns.seconds.items()}
    ratios = {
        way: [ours / plain for ours, plain in zip(taken, seconds["plain"], strict=True)]
        for way, taken in seconds.items()
    }
    if "exact" in ratios:
        pairs = zip(ratios["losses"], ratios["exact"], strict=True)
        ratios["exact, every 10 steps"] = [0.9 * often + 0.1 * once for often, once in pairs]
    rows = [
        {
            "way": way,
            "CPU s": statistics.median(seconds[way]) if way in seconds else "",
            "ratio": statistics.median(found),
            "least": min(found),
            "greatest": max(found),
        }
        for way, found in ratios.items()
    ]
    record = {
        "teacher": args.teacher,
        "tokens": turns.tokens,
        "seconds": seconds,
        "ratios": {way: spread(found) for way, found in ratios.items()},
    }
    report(f"A step, {args.rows} rows of each objective, {turns.tokens}", rows, record, args.out)


def measure_memory(args: argparse.Namespace) -> None:
    """Peak of two steps of one way, and print."""
    way = args.memory
    if way == "plain":
        plain = PlainStep(load_base(ModelSource(args.model)).train())
        batches = batches_of(args)
        reset_peak()
        plain(batches)
        plain(batches)
    else:
        lora = LoRA() if way == "lora" else None
        fit(args, Turns(("losses" if way == "lora" else way,), beside=False), 2, lora)
    found = {"way": way, "peak GiB": peak_gib()}
    report(f"Peak memory, {args.rows} rows of each objective", [found], found, args.out)


def batches_of(args: argparse.Namespace) -> list[TokenBatch]:
    """The rows of a step, without a trainer."""
    from lit_unlearn.data.encoding import Encoder
    from lit_unlearn.models.loading import load_tokenizer
    from lit_unlearn.training.setup.prepare import prepare

    data = four_objectives(args.rows, Demonstrations(args.context), args.data)
    data.setup("fit")
    encoder = Encoder(load_tokenizer(ModelSource(args.model)))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "preparation.json"
        found = prepare(data.objectives, data.examples, None, encoder, Gate(action="off"), store)
    data.set_rows(found.encoded, 0)
    return [batch for parts in data.batch(data.plan().step(0)).values() for batch in parts]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--rows", type=int, default=4, help="of each objective in a step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--teacher", default="cached", choices=["cached", "bfloat16", "float32"])
    parser.add_argument("--context", type=int, default=3, help="declined demonstrations")
    parser.add_argument("--memory", choices=["plain", *TIMED, "lora"])
    parser.add_argument("--cache", type=Path, default=Path("runs/step_cost/cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/step_cost/result.json"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (measure_memory if args.memory else measure_time)(args)


if __name__ == "__main__":
    main()
