"""Which strategies there are, and what is refused before any process is started."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from lit_unlearn.__main__ import main
from lit_unlearn.distributed.strategy import FSDP2Strategy, by_alias, check_strategy
from lit_unlearn.errors import InputError
from tests.conftest import PROJECT
from tests.small_runs import trainer
from tests.unit.distributed.test_training import data, module

SMOKE = ["fit", "--config", str(PROJECT / "configs/smoke.yaml"), "--trainer.devices", "2"]


def made(strategy: Any, **options: Any) -> Trainer:
    given = {"use_distributed_sampler": False, "logger": False, **options}
    return Trainer(accelerator="cpu", devices=2, strategy=strategy, **given)


def test_alias(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert by_alias("fsdp") == "fsdp2"
    assert "fsdp means fsdp2 here" in caplog.text
    strategy = FSDP2Strategy()
    assert [by_alias(given) for given in ("ddp", None, strategy)] == ["ddp", None, strategy]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_what_can_be_used(strategy: str) -> None:
    check_strategy(made(strategy), adapters=True)
    shuffled = made(strategy, use_distributed_sampler=True)
    with pytest.raises(InputError, match=r"`trainer.use_distributed_sampler` should be false"):
        check_strategy(shuffled)


def test_what_cannot() -> None:
    bare = made(ModelParallelStrategy())
    with pytest.raises(InputError, match=r"auto, ddp or fsdp2\. Found a ModelParallelStrategy"):
        check_strategy(bare)
    check_strategy(made(FSDP2Strategy(save_distributed_checkpoint=True)))
    sliced = made(FSDP2Strategy(save_distributed_checkpoint=True))
    with pytest.raises(InputError, match=r"should be false with `model.student.lora`"):
        check_strategy(sliced, adapters=True)


def test_refused_by_the_command_line(capfd: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """Were processes started, each would print the line."""
    three = {"class_path": "FSDP2Strategy", "init_args": {"replicas": 3}}
    folder = ["--trainer.default_root_dir", str(tmp_path)]
    status = main([*SMOKE, *folder, "--trainer.strategy", json.dumps(three)])
    error = capfd.readouterr().err
    assert status == 2
    assert error.count("lit-unlearn: error:") == 1
    assert "`trainer.strategy.init_args.replicas` should divide the number of processes, 2" in error


def test_rows_are_shared_out(tmp_path: Any) -> None:
    """Each row of a step is read by one process; borrowed ones make the numbers equal."""
    rows = data(micro_batch_rows=1)
    trainer(tmp_path, max_steps=1).fit(module(), datamodule=rows)
    for step in range(4):
        whole = rows.batch(rows.plan().step(step))
        plans = [rows.plan(rank, 3) for rank in range(3)]
        shares = [rows.batch(p.step(step), p.busiest().step(step)) for p in plans]
        for name, batches in whole.items():
            expected = sorted(i for batch in batches for i in batch.example_ids)
            own = [b for share in shares for b in share[name] if not b.borrowed]
            assert sorted(i for batch in own for i in batch.example_ids) == expected
            assert len({len(share[name]) for share in shares}) == 1
            assert not any(batch.to("cpu").borrowed for batch in shares[0][name])
    assert any(b.to("cpu").borrowed for b in shares[2]["forget"] + shares[2]["retain"])
