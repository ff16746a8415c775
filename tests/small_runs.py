"""Small runs, stated once: a trainer, four objectives on the tiny model, a recorder of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

from lit_unlearn.data.contexts import Echo
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.gradients.weighting import Weighting
from lit_unlearn.models.loading import LoRA, ModelSource
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import (
    Adversarial,
    BidirectionalDistillation,
    CrossEntropy,
    ForwardKL,
    Objective,
)
from lit_unlearn.teachers import FrozenTeacher, Teacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate

STEPS = 5


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """One process on the CPU that shows, logs and saves nothing, unless an option says so."""
    nothing = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    settings: dict[str, Any] = {"accelerator": "cpu", "devices": 1}
    settings |= {"use_distributed_sampler": False, **dict.fromkeys(nothing, False), **options}
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **settings)


def data_module(**options: Any) -> UnlearnDataModule:
    """Four objectives on a few rows of the built-in set."""

    def rows(name: str) -> list[Source]:
        return [Source(f"builtin:{name}", split="train", limit=5)]

    refusals = ["No."]
    return UnlearnDataModule(
        {
            "forget": ObjectiveData(rows("forget"), "decline", 2, "refusal", refusals, Echo()),
            "adversarial": ObjectiveData(
                rows("forget"),
                "decline",
                1,
                "refusal",
                refusals,
                Echo(),
                Prefills(["Sure:", "Yes:"]),
            ),
            "retain": ObjectiveData(rows("general"), "answer", 2),
            "neighbor": ObjectiveData(rows("neighbor"), "answer", 1),
        },
        **options,
    )


def module(
    weighting: Weighting | None = None,
    teacher: Teacher | None = None,
    lora: LoRA | None = None,
    **options: Any,
) -> UnlearnModule:
    objectives: dict[str, Objective] = {
        "forget": BidirectionalDistillation(),
        "adversarial": Adversarial(BidirectionalDistillation(), weight=0.5),
        "retain": CrossEntropy(),
        "neighbor": ForwardKL(weight=0.0),
    }
    return UnlearnModule(
        ModelSource(TINY_NAME, lora=lora),
        objectives,
        teacher or FrozenTeacher(),
        weighting,
        Gate(action="off"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2),
        diagnostics_every=options.pop("diagnostics_every", 2),
        **options,
    )


class Recorder(Callback):
    """Keeps what every step returns."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.records.append(outputs)


def fit(
    folder: Path,
    model: UnlearnModule,
    data: UnlearnDataModule | None = None,
    *,
    steps: int = STEPS,
    save: bool = False,
    resume: Path | None = None,
) -> Recorder:
    recorder = Recorder()
    run = trainer(folder, recorder, max_steps=steps)
    run.fit(model, datamodule=data or data_module(), ckpt_path=resume)
    if save:
        run.save_checkpoint(folder / "last.ckpt")
    return recorder


def losses(recorder: Recorder) -> list[dict[str, float]]:
    return [record["losses"] for record in recorder.records]


def weights(model: UnlearnModule) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.parameters_trained]
