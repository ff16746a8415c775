"""Phases of commands: what is counted in each, and how long it takes at given rates."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from lit_unlearn.attacks.relearning import FineTuning
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.probes import Outcome, Probe, Subject, Suite
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.evaluation.suites.answers import Answers
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.evaluation.suites.quantised import Quantised
from lit_unlearn.evaluation.suites.relearned import Relearn
from lit_unlearn.interference_study.measure import Amounts
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME, tiny_model, tiny_tokenizer
from lit_unlearn.planning import phases, rates
from lit_unlearn.planning.commands import evaluation_forecast, rewriting_forecast
from lit_unlearn.planning.forecast import PlannedRun, RunWork, SuiteSchedule, forecast
from lit_unlearn.planning.layout import teacher_layout
from lit_unlearn.planning.phases import Forecast, Phase
from lit_unlearn.planning.planned_rows import PlannedRows, read_rows
from lit_unlearn.planning.rates import Rates, SampleWork, rates_here, writing_rate
from lit_unlearn.planning.scenario import optimizer_costs, scenario_of
from lit_unlearn.planning.studies import study_forecast
from lit_unlearn.planning.suites import SuiteModel, suite_phases
from lit_unlearn.planning.traffic import Traffic
from lit_unlearn.rewriting.local import LocalModel
from lit_unlearn.rewriting.prompts import anchor, confirm
from lit_unlearn.rewriting.source_texts import QA
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import Example, Turn
from tests.unit.training.test_module_cache import data_module, objectives

UPPER = ["layers[.]1[.]", "model[.]norm"]
ROWS = [Example(f"r/{n}", (Turn("user", f"Why {n}?"),), "So.", "question_answer") for n in range(4)]
RATES = Rates(reading=2e12, replying=0.5e12, training=1e12, moving=1e9, machine="a machine")
LAYOUT = teacher_layout(tiny_model(0).config, 4)
ENCODER = Encoder(tiny_tokenizer(), 512, "warn")


@cache
def rows_read() -> PlannedRows:
    return read_rows(data_module(), ENCODER)


def run(
    around: RunWork, trainable: list[str] | None = UPPER, gate: Gate | None = None
) -> PlannedRun:
    source = ModelSource(TINY_NAME, trainable=trainable)
    teacher = FrozenTeacher(cache=True)
    module = UnlearnModule(source, objectives(), teacher, gate=gate or Gate(sample=2))
    return PlannedRun(module, scenario_of(module, rows_read().data), rows_read(), around)


def found(around: RunWork, **options: Any) -> dict[str, Phase]:
    return {one.name: one for one in run(around, **options).phases()}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path / "cache"))


def schedule(opened: bool = False, **options: Any) -> SuiteSchedule:
    prefills = {"forget": ["Sure:"] if opened else None}
    return SuiteSchedule({"evaluation": Answers({"forget": ROWS}, prefills, 5)}, **options)


def test_phases_in_the_order_in_which_they_come() -> None:
    one = found(RunWork(30, evaluations=[schedule(every=10)], export=True))
    before = ["teacher gate", "trunk cache", "teacher cache", "evaluation before"]
    assert list(one) == [*before, "30 steps", "evaluation, 2 times", "evaluation after", "export"]
    assert one["evaluation before"].replying == one["evaluation after"].replying > 0
    assert one["evaluation, 2 times"].replying == 2 * one["evaluation after"].replying
    assert one["30 steps"].training > one["30 steps"].reading > 0
    assert one["export"].written == 4 * LAYOUT.parameters
    often = found(RunWork(3, evaluations=[schedule(before=False, times=5)]))
    assert "evaluation before" not in often
    replying = 5 * one["evaluation after"].replying
    assert often["evaluation after, 5 times"].replying == pytest.approx(replying)


def test_what_is_not_done_is_not_counted() -> None:
    assert "trunk cache" not in found(RunWork(3), trainable=None)
    assert "teacher gate" not in found(RunWork(3), gate=Gate(action="off"))
    assert "validation" not in found(RunWork(3))
    few, many = (found(RunWork(3, validated={"adversarial": n}))["validation"] for n in (2, 6))
    assert many.reading == pytest.approx(3 * few.reading)
    assert few.reading > 0
    once, twice = (
        found(RunWork(3, evaluations=[schedule(opened)]))["evaluation after"]
        for opened in (False, True)
    )
    assert twice.replying == pytest.approx(2 * once.replying)


def test_evaluations_without_rows_are_named_and_not_counted() -> None:
    planned = run(RunWork(3, evaluations=[SuiteSchedule({})]))
    assumed = replace(planned, rows=replace(planned.rows, assumed=True))
    assert "evaluations" not in [one.name for one in planned.phases()]
    last = assumed.phases()[-1]
    assert (last.name, last.counted) == ("evaluations", False)
    own = replace(assumed, work=RunWork(3, evaluations=[schedule()]))  # it has rows of its own
    assert all(one.counted for one in own.phases())
    text = io.StringIO()
    Console(file=text, width=90).print(Forecast([last], RATES).table())
    line = next(line for line in text.getvalue().splitlines() if "evaluations" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["evaluations", "?", "?", last.note]


def test_a_resumed_run_goes_on() -> None:
    whole, rest = found(RunWork(30, evaluations=[schedule()])), found(RunWork(30, 20, [schedule()]))
    assert list(rest) == ["trunk cache", "teacher cache", "10 steps", "evaluation after"]
    assert rest["10 steps"].training == pytest.approx(whole["30 steps"].training / 3)


def test_seconds_are_work_at_measured_rates() -> None:
    """8 TFLOP at 2 TFLOP/s, 3 at 0.5, 2 at 1, and 5 GB at 1 GB/s; the cache has a half of it."""
    one = Phase("teacher gate", 8e12, 3e12, 2e12, 5e9, kept=True)
    assert one.seconds(RATES) == pytest.approx(4 + 6 + 2 + 5)
    half = one.without(0.5)
    assert (half.seconds(RATES), half.note) == (pytest.approx(8.5), "50% from the cache")
    assert (one.without(1.0).flops, one.without(1.0).note) == (0, "from the cache")
    assert one.without(0.0) == one
    text = io.StringIO()
    made = Forecast([one, replace(one, name="steps", kept=False)], RATES)
    Console(file=text, width=90).print(made.table())
    lines = text.getvalue().splitlines()
    assert any("teacher gate" in line and "17 s" in line for line in lines)
    assert any("all" in line and "26" in line and "34 s" in line for line in lines)
    assert "a machine" in text.getvalue()
    assert made.seconds_cached == pytest.approx(17)


def test_a_run_of_seconds_gets_no_table() -> None:
    module = UnlearnModule(ModelSource(TINY_NAME), objectives(), FrozenTeacher())
    assert forecast(module, data_module(), RunWork(3), device=torch.device("cpu")) is None


def test_rates_are_measured_by_doing_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rates, "_SECONDS", 0.0)
    one = run(RunWork(3))
    at = one.scenario
    cpu = torch.device("cpu")
    measured = rates_here(at.config, at.source, torch.float32, cpu, one.sample_work())
    assert min(measured.reading, measured.replying, measured.training, measured.moving) > 0
    adapted = ModelSource(TINY_NAME, lora=at.source.lora)
    assert rates_here(at.config, adapted, torch.float32, cpu, SampleWork([[1, 2, 3]])).training == 0
    assert writing_rate(tmp_path / "not" / "there") > 0
    assert not list(tmp_path.iterdir())


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecast work of seconds, too, and measure rates for a moment only."""
    monkeypatch.setattr(phases, "LEAST_FLOPS", 0.0)
    monkeypatch.setattr(rates, "_SECONDS", 0.0)


def test_elements_that_operations_move() -> None:
    """A product reads one table and writes one; a view moves nothing, a sum reads."""
    table = torch.ones(4, 61)
    with Traffic(61) as traffic:
        (table * 2).view(2, 2, 61).sum()
    assert traffic.elements == 3 * table.numel()
    assert optimizer_costs(lambda p: torch.optim.SGD(p, 0.1), 4) == (0, 3)
    state, moved = optimizer_costs(lambda p: torch.optim.AdamW(p, 0.1), 4)
    assert state == 8
    assert moved > 10


# ------------------------------------------------------------------------------------------ suites


class Own(Suite):
    """A suite with its own way to answer."""

    name = "own"

    def probes(self, data_root: Path | None) -> list[Probe]:
        return Boundary().probes(data_root)

    def score(self, *_: Any) -> Any:
        raise NotImplementedError

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        raise NotImplementedError


def phase_of(suite: Suite) -> Phase:
    (one,) = suite_phases(SuiteModel(LAYOUT, ENCODER), {"suite": suite}, limit=4)
    return one


def test_suites_are_counted_with_all_models_that_answer() -> None:
    plain, both = phase_of(Quantised(bits=[])), phase_of(Quantised())
    assert both.reading == pytest.approx(3 * plain.reading)
    assert both.replying == pytest.approx(3 * plain.replying)
    assert plain.moved > 0
    few, many = (
        phase_of(Relearn(steps=[n], fine_tuning=FineTuning(batch_size=2))) for n in (1, 11)
    )
    assert few.replying == many.replying
    assert many.reading > few.reading


def test_an_unknown_way_to_answer_is_not_counted() -> None:
    one = phase_of(Own())
    assert (one.flops, one.note) == (0, "its time is not counted")


def test_rows_that_do_not_fit_are_not_counted() -> None:
    """The suite refuses them when it runs."""
    (one,) = suite_phases(SuiteModel(LAYOUT, replace(ENCODER, max_length=1)), {"depth": Depth()})
    assert (one.flops, one.note) == (0, "its time is not counted")


@pytest.mark.usefixtures("_at_once")
def test_outcomes_in_the_folder_are_not_asked_again(tmp_path: Path) -> None:
    suites, loading = {"boundary": Boundary(max_new_tokens=2)}, Loading(device="cpu")

    def foreseen() -> Phase:
        models: dict[str, tuple[str, Path | None]] = {"model": (TINY_NAME, tmp_path)}
        made = evaluation_forecast(models, suites, loading, limit=4)
        assert made is not None
        return made.phases[0]

    assert foreseen().replying > 0
    evaluate(TINY_NAME, suites, output=tmp_path, limit=4, loading=loading)
    assert (foreseen().flops, foreseen().note) == (0, "from the cache")


# --------------------------------------------------------------------------------- other commands


@pytest.mark.usefixtures("_at_once")
def test_replies_of_a_local_model_by_task() -> None:
    qa = QA("Where is it?", "There.")
    asks = [(anchor(qa, 2), 3), (confirm(qa), 6), (confirm(qa), 6)]
    made, more = (
        rewriting_forecast(LocalModel(TINY_NAME, device="cpu", fill=fill), asks)
        for fill in (False, True)
    )
    assert made is not None
    assert more is not None
    first, second = made.phases
    assert second.replying == pytest.approx(
        4 * asks[1][0].max_tokens / asks[0][0].max_tokens * first.replying
    )
    assert more.phases[0].reading > 2 * first.reading


@pytest.mark.usefixtures("_at_once")
def test_a_study_is_counted_by_representation() -> None:
    module = UnlearnModule(ModelSource(TINY_NAME), objectives(), FrozenTeacher(cache=True))
    forms = {"raw": data_module(), "unified": data_module()}
    few, many = (
        study_forecast(module, forms, Amounts([4, 8], 2, steps, 0.1), torch.device("cpu"))
        for steps in (1, 2)
    )
    assert few is not None
    assert many is not None
    names = [f"{k}: {n}" for k in forms for n in ("teacher gate", "gradients", "small steps")]
    assert [phase.name for phase in few.phases] == names
    assert many.phases[1] == few.phases[1]
    assert many.phases[2].training == pytest.approx(2 * few.phases[2].training)
    assert few.phases[1].training > few.phases[2].training
