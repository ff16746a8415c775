"""Runs are checked as `fit` checks them, without a device, a folder or a logger."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_unlearn.cli import checking
from lit_unlearn.errors import InputError
from lit_unlearn.planning.phases import Forecast, Phase
from lit_unlearn.planning.plan import TrainerSettings
from lit_unlearn.planning.rates import Rates
from tests.conftest import PROJECT

SMOKE = ["--config", str(PROJECT / "configs/smoke.yaml")]


def test_a_run_for_many_gpus_is_checked_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gpus = ["--trainer.accelerator=gpu", "--trainer.devices=8", "--trainer.num_nodes=2"]
    run = checking.checked([*SMOKE, *gpus, "--trainer.strategy=fsdp", "--seed_everything=3"])
    assert run.settings.count() == 16
    assert run.trainer.world_size == 16
    assert run.datamodule.seed == 3
    assert run.model.student is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("before", "option", "message"),
    [
        ([SMOKE], "--seed_everythin=1", "--seed_everythin: unknown option; did you mean"),
        ([], "--trainer.callbacks+={class_path: LossBounds, init_args: {lowest: {x: 1}}}", "'x'"),
        ([], "--trainer.strategy=ddpp", "did you mean ddp?"),
        ([], "--trainer.max_steps=0", "`trainer.max_steps`"),
        ([], "--data.max_length=40", "in the prompt, more than `max_length` = 40"),
    ],
)
def test_a_sweep_checks_all_its_runs(
    monkeypatch: pytest.MonkeyPatch, before: list[list[str]], option: str, message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([*before, [*SMOKE, option]])))
    with pytest.raises(InputError) as caught:
        checking.main(["sweep"])
    assert message in str(caught.value)


def test_a_sweep_is_told_what_a_run_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """6 TFLOP at 1 TFLOP/s; 4 of them are in the cache when the next run comes."""
    parts = [Phase("teacher gate", 4e12, kept=True), Phase("3 steps", 2e12)]
    run = SimpleNamespace(
        settings=TrainerSettings(),
        model=None,
        datamodule=SimpleNamespace(prepare_data=lambda: None, epoch_steps=lambda: 0),
        trainer=SimpleNamespace(
            callbacks=[], max_steps=3, max_epochs=None, limit_val_batches=0, default_root_dir="."
        ),
    )
    monkeypatch.setattr(checking, "checked", lambda options: run)
    made = Forecast(parts, Rates(1e12, 1e12))
    monkeypatch.setattr(checking, "check_lengths", lambda *_: None)
    monkeypatch.setattr(checking, "forecast", lambda *_, **__: made)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([SMOKE, SMOKE])))
    checking.main(["sweep"])
    assert capsys.readouterr().out == "[6.0, 2.0]\n"
