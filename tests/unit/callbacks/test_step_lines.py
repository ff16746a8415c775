"""StepLines: lines while steps are made, and none while the model is asked before and after."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from lit_unlearn.callbacks.step_lines import StepLines
from lit_unlearn.cli.fit_forecast import with_step_lines
from lit_unlearn.utils import progress


def test_lines_of_the_steps_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    trainer: Any = SimpleNamespace(max_steps=2, global_step=0, should_stop=True)
    module: Any = None
    lines = StepLines()

    def said() -> str:
        time.sleep(0.05)
        return capsys.readouterr().err

    lines.on_train_start(trainer, module)
    lines.on_train_epoch_start(trainer, module)
    assert said() == ""
    lines.on_train_batch_start(trainer, module, None, 0)
    assert "training: 0 of 2 steps" in said()
    trainer.global_step = 2
    lines.on_train_batch_end(trainer, module, None, None, 0)
    assert capsys.readouterr().err.splitlines()[-1].startswith("training: 2 steps")
    assert said() == ""
    lines.on_train_epoch_end(trainer, module)
    assert said() == ""


def test_none_beside_a_bar_that_the_config_asks_for() -> None:
    """Lightning refuses a callback with a bar where bars are off."""
    for config in ({"callbacks": TQDMProgressBar()}, {"enable_progress_bar": True}):
        assert with_step_lines(config, []) == []
        assert "enable_progress_bar" not in config or config["enable_progress_bar"]
    config = {"callbacks": None}
    assert len(with_step_lines(config, [])) == 1
    assert config["enable_progress_bar"] is False
