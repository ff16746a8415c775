"""Tests of the trainer whose precision follows the device."""

from __future__ import annotations

from typing import Any

import pytest

from lit_unlearn.training import trainer as module
from lit_unlearn.training.trainer import UnlearnTrainer

OPTIONS: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "max_steps": 1}


def made(**options: Any) -> UnlearnTrainer:
    return UnlearnTrainer(accelerator="cpu", devices=1, **OPTIONS, **options)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    monkeypatch.setattr("lit_unlearn.models.dtypes.multiplies_bfloat16", lambda _: native)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda _: native)
    trainer = made(precision="auto")
    assert trainer.precision == precision
    assert trainer.precision_note.startswith(f"Precision: {precision}")


def test_emulated_bfloat16_is_named_with_its_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda _: False)
    monkeypatch.setattr(module, "times_slower_in_bfloat16", lambda _: 27.4)
    trainer = made(precision="bf16-mixed")
    assert trainer.precision == "bf16-mixed"
    assert "27 times as long" in trainer.precision_note
    assert "precision auto" in trainer.precision_note


def test_what_is_set_stays_and_is_no_news() -> None:
    assert made().precision == "32-true"
    assert made(precision="32-true").precision_note == ""
