"""Phases of a run: what is counted in each, and how long it takes at given rates."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME, tiny_tokenizer
from lit_unlearn.planning.forecast import forecast
from lit_unlearn.planning.phases import Evaluated, Phase, Rates, phase_table, phases
from lit_unlearn.planning.planned_rows import read_rows
from lit_unlearn.planning.scenario import scenario_of
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import Example, Turn
from tests.unit.training.test_module_cache import data_module, objectives

UPPER = ["layers[.]1[.]", "model[.]norm"]
ROWS = [Example(f"r/{n}", (Turn("user", f"Why {n}?"),), "So.", "question_answer") for n in range(4)]
RATES = Rates(reading=2.0, replying=0.5, machine="a machine")


def found(
    *, trainable: list[str] | None = UPPER, gate: Gate | None = None, opened: bool = False
) -> dict[str, Phase]:
    source = ModelSource(TINY_NAME, trainable=trainable)
    gate = gate or Gate(sample=2)
    module = UnlearnModule(source, objectives(), FrozenTeacher(cache=True), gate=gate)
    encoder = Encoder(tiny_tokenizer(), 512, "warn")
    rows = read_rows(data_module(), encoder)
    asked = Evaluated(encoder, {"forget": ROWS}, frozenset({"forget"} if opened else ()), 5)
    scenario = scenario_of(module, rows.data)
    return {one.name: one for one in phases(gate, scenario, rows, 7e12, 3, asked)}


def test_phases_in_the_order_in_which_they_come() -> None:
    names = ["teacher gate", "trunk cache", "teacher cache", "evaluation before"]
    one = found()
    assert list(one) == [*names, "3 steps", "evaluation after", "export"]
    assert one["3 steps"].reading == 21e12
    assert one["evaluation before"].replying == one["evaluation after"].replying > 0


def test_what_is_not_done_is_not_counted() -> None:
    assert "trunk cache" not in found(trainable=None)
    assert "teacher gate" not in found(gate=Gate(action="off"))
    once, twice = found()["evaluation before"], found(opened=True)["evaluation before"]
    assert twice.reading == pytest.approx(2 * once.reading)
    assert twice.replying == pytest.approx(2 * once.replying)


def test_seconds_are_flops_at_the_two_rates() -> None:
    """8 TFLOP at 2 TFLOP/s, and 3 at 0.5."""
    one = Phase("teacher gate", 8e12, 3e12)
    assert one.seconds(RATES) == pytest.approx(4 + 6)
    text = io.StringIO()
    Console(file=text, width=90).print(phase_table([one, replace(one, name="steps")], RATES))
    lines = text.getvalue().splitlines()
    assert any("teacher gate" in line and "10 s" in line for line in lines)
    assert any("all" in line and "22" in line and "20 s" in line for line in lines)
    assert "a machine" in text.getvalue()


def test_a_run_of_seconds_gets_no_table() -> None:
    module = UnlearnModule(ModelSource(TINY_NAME), objectives(), FrozenTeacher())
    data = data_module()
    assert forecast(module, data, 3, device=torch.device("cpu")) is None
