"""What do three jobs of open-unlearning cost here: GradDiff, NPO, and NPO with a KL teacher?

    OMP_NUM_THREADS=1 python benchmarks/peer_jobs.py graddiff|npo|npo_kl
        [--model MODEL] [--data FOLDER] [--steps 3] [--micro_batch_rows N]
        [--activation_checkpointing] [--out FILE.json]

8 forget and 8 retain rows of TOFU a step, float32, AdamW, no diagnostics; the frozen reference
model is cached, as open-unlearning's is not. CPU seconds of a step of `Trainer.fit` (the first
does not count), peak memory of the process in the training steps, losses of the first step, and the
same by open-unlearning's figures (`PEER`): measured on another machine of the same kind, on rows of
about 1,500 padded tokens. They are for orientation. Of the peak it is said what the process held
before the first step, and what weights, one gradient and AdamW take; the rest are activations,
logits, and what the allocator keeps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from cost import MODEL, peak_gib, report, reset_peak, tofu, tokens_of
from lightning import Callback, Trainer

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.objectives import NPO, CrossEntropy, ForwardKL, GradientAscent, Objective
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate

PROJECT = Path(__file__).resolve().parents[1]
ROWS = 8
PEER = {"graddiff": (16.65, 6.15), "npo": (20.5, 6.8), "npo_kl": (27.5, 9.65)}
"""CPU seconds of a step and GB of open-unlearning d3d7cf9, the middle of what was seen."""


class Clock(Callback):
    """CPU seconds of each step, its tokens, the first step's losses, and the peak of memory."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: dict[str, float] = {}
        self.tokens: dict[str, int] = {}
        self.peak = self.before = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start."""
        reset_peak()
        self.before = peak_gib()
        self.mark = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step."""
        self.seconds.append(time.process_time() - self.mark)
        self.losses = self.losses or outputs["losses"]
        self.tokens = tokens_of([part for parts in batch.values() for part in parts])
        self.peak = peak_gib()
        self.mark = time.process_time()


def objectives(job: str) -> dict[str, Objective]:
    """What a job trains on."""
    forget: Objective = GradientAscent() if job == "graddiff" else NPO(beta=0.1)
    return {"forget": forget, "retain": ForwardKL() if job == "npo_kl" else CrossEntropy()}


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("job", choices=list(PEER))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--micro_batch_rows", type=int, help="of the 8; all at once by default")
    parser.add_argument("--activation_checkpointing", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/peer_jobs/result.json"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        module = UnlearnModule(
            ModelSource(args.model, activation_checkpointing=args.activation_checkpointing),
            objectives(args.job),
            None if args.job == "graddiff" else FrozenTeacher(cache=f"{folder}/cache"),
            gate=Gate(action="off"),
            diagnostics_every=0,
        )
        data = UnlearnDataModule(
            {
                "forget": ObjectiveData(tofu("forget10", ROWS), "decline", ROWS),
                "retain": ObjectiveData(tofu("retain90", ROWS), "answer", ROWS),
            },
            data_root=str(args.data),
            micro_batch_rows=args.micro_batch_rows,
        )
        Trainer(
            accelerator="cpu",
            max_steps=args.steps,
            max_epochs=1,
            logger=False,
            callbacks=[clock],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, data)
    seconds, (peer_seconds, peer_peak) = statistics.median(clock.seconds[1:]), PEER[args.job]
    found = {
        "job": args.job,
        "CPU s": seconds,
        "by theirs": seconds / peer_seconds,
        "peak GiB": clock.peak,
        "by their GB": clock.peak * 2**30 / 1e9 / peer_peak,
        "before": clock.before,
        "weights + gradient + AdamW": 4 * sum(p.nbytes for p in module.parameters()) / 2**30,
    }
    record = {**found, "seconds": clock.seconds, "losses": clock.losses, "tokens": clock.tokens}
    report(
        f"A step of 8 + 8 rows, {clock.tokens}, losses {clock.losses}", [found], record, args.out
    )


if __name__ == "__main__":
    main()
