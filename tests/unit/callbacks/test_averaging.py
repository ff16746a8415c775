"""Lightning's averages of weights in a run: resumed exactly, with adapters too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from lit_unlearn.models.loading import LoRA
from tests.small_runs import data_module, module, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
    "ignore:`is_gradient_checkpointing` is deprecated",  # peft with transformers 5
    "ignore:You're using the WeightAveraging callback with a model that overrides",
    "ignore:The number of training batches",
)


class Saving(Callback):
    """Saves a checkpoint after the second step."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "x.ckpt")


def test_a_resumed_average_is_the_unbroken_one(tmp_path: Path) -> None:
    """A checkpoint of adapters holds whole averages, since Lightning reads them back as a whole."""
    found = []
    for given in (None, tmp_path / "x.ckpt"):
        model = module(lora=LoRA(2))
        callbacks = [EMAWeightAveraging(decay=0.5), *([] if given else [Saving()])]
        run = trainer(tmp_path, *callbacks, max_steps=3)
        run.fit(model, datamodule=data_module(), ckpt_path=given, weights_only=True)
        found.append([p.detach().clone() for p in model.student.parameters()])
    for unbroken, resumed in zip(*found, strict=True):
        assert torch.equal(unbroken, resumed)
