"""benchmarks/turns.py: every way has its turn, also where an epoch is one step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.benchmark_scripts import benchmark

turns = benchmark("turns")


def test_every_way_has_its_turn() -> None:
    """The number of the batch is 0 in each step, as in epochs of one step."""
    stepped: list[str] = []
    found = turns.Turns(("losses", "sketch", "exact"), lambda *_: stepped.append)
    trainer: Any = SimpleNamespace(optimizers=[None])
    module: Any = SimpleNamespace(student=None)
    found.on_train_start(trainer, module)
    ways = []
    for _ in range(6):
        found.on_train_batch_start(trainer, module, {}, 0)
        ways.append((module.diagnostics_every, module.diagnostics))
        found.on_train_batch_end(trainer, module, None, {}, 0)
    assert ways == [(0, "exact"), (1, "sketch"), (1, "exact")] * 2
    assert stepped == [{}, {}]
    assert {way: len(taken) for way, taken in found.counted().items()} == {
        "losses": 1,
        "sketch": 1,
        "exact": 1,
        turns.BESIDE: 1,
    }
