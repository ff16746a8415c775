"""The metrics in a Lightning module that knows nothing of this package."""

from __future__ import annotations

from typing import Any

import lightning
import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from lit_unlearn import AnswerNLL, AnswerProbability, ExtractionStrength
from tests.unit.metrics.cases import answers, padded


class Module(lightning.LightningModule):
    """Logs a collection of metrics that share their states, and one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.forget = MetricCollection([AnswerProbability(), ExtractionStrength()], prefix="f/")
        self.nll = AnswerNLL()

    def validation_step(self, batch: list[Any], index: int) -> None:
        self.forget.update(*batch)
        self.nll(*batch)
        self.log_dict(self.forget)
        self.log("nll", self.nll, on_step=False, on_epoch=True)


def test_what_is_logged_is_over_all_rows_of_an_epoch(tmp_path: Any) -> None:
    rows = answers()
    batches = DataLoader([padded(rows[:2]), padded(rows[2:])], batch_size=None)  # type: ignore[arg-type]
    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet)  # type: ignore[arg-type]
    module = Module()
    for _ in range(2):  # the second epoch begins anew
        (found,) = trainer.validate(module, batches, verbose=False)
        wanted = {
            "f/AnswerProbability": AnswerProbability()(*padded(rows)),
            "f/ExtractionStrength": ExtractionStrength()(*padded(rows)),
            "nll": AnswerNLL()(*padded(rows)),
        }
        assert found == pytest.approx({name: float(value) for name, value in wanted.items()})
        assert torch.equal(trainer.callback_metrics["nll"], wanted["nll"])
