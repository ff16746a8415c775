"""What is wrong with a run is found before anything is loaded; monitors name what a run logs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
)

from lit_unlearn.callbacks import (
    AnswerEvaluation,
    GradientMonitor,
    LossBounds,
    SuiteEvaluation,
    Throughput,
)
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.figure_names import figure_names
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.relearned import Relearn
from lit_unlearn.objectives import (
    DPO,
    PALU,
    CrossEntropy,
    DeclineEverywhere,
    ForwardKL,
    GradientAscent,
    SharpnessAware,
)
from lit_unlearn.training.run_checks import check_run
from tests.small_runs import data_module, module
from tests.unit.callbacks.test_callbacks import fit
from tests.unit.objectives.given import CASES, batch_of, given

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
    "ignore:Using ModelCheckpoint with manual optimization",
    "ignore:Checkpoint directory",
)


def trainer(*callbacks: Callback, **options: Any) -> Trainer:
    return Trainer(
        max_steps=options.pop("max_steps", 2),
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        callbacks=list(callbacks),
        **options,
    )


def refused(*callbacks: Callback, model: Any = None, data: Any = None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        check_run(trainer(*callbacks, **options), model or module(), data or data_module())
    message = str(caught.value)
    assert "\n" not in message
    return message


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accumulate_grad_batches": 2}, ["accumulate_grad_batches", "data.micro_batch_rows"]),
        ({"gradient_clip_val": 1.0}, ["gradient_clip_val", "model.clip_norm"]),
        ({"max_steps": -1}, ["max_steps", "--trainer.max_steps 60"]),
        ({"precision": "bf16-true"}, ["precision", "bf16-mixed"]),
        ({"precision": "64-true"}, ["precision", "32-true"]),
    ],
)
def test_settings_of_lightning(options: dict[str, Any], words: list[str]) -> None:
    message = refused(**options)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("callback", "repair"),
    [
        (LearningRateFinder(), "--sweep.model.optimizer"),
        (BatchSizeFinder(), "lit-unlearn plan"),
        (GradientAccumulationScheduler({0: 1}), "micro_batch_rows"),
        (BackboneFinetuning(), "model.student.trainable"),
        (ModelPruning("l1_unstructured"), "prune the exported model"),
        (ModelCheckpoint(train_time_interval=timedelta(hours=1)), "every_minutes"),
    ],
)
def test_callbacks_that_need_another_kind_of_training(callback: Callback, repair: str) -> None:
    message = refused(callback)
    assert type(callback).__name__ in message
    assert repair in message


def test_names_needs_and_optimizer() -> None:
    data = data_module()
    del data.objectives["forget"]
    assert "`model.objectives.forget` has no `data.objectives.forget`" in refused(data=data)
    model = module()
    model.objectives["retain"] = SharpnessAware(DPO())
    assert "`data.objectives.retain.rejected`" in refused(model=model)
    model = module()
    model.objectives["forget"] = SharpnessAware(PALU())
    assert "`data.objectives.forget.mark_spans` should be true" in refused(model=model)
    model.objectives["forget"] = DeclineEverywhere(ForwardKL())
    assert "`data.objectives.forget.answer` should be gold or teacher" in refused(model=model)
    data = data_module()
    data.objectives["retain"] = replace(data.objectives["retain"], answer="none")
    assert "`data.objectives.retain.answer`" in refused(data=data)
    data.objectives["retain"] = replace(data.objectives["retain"], answer="teacher")
    plain = module()
    plain.objectives = {name: CrossEntropy() for name in plain.objectives}
    plain.teacher = None
    assert "no teacher" in refused(model=plain, data=data)
    slow = module()
    slow.make_optimizer = lambda p: torch.optim.SGD(p, lr=-1.0)
    assert "`model.optimizer`: Invalid learning rate: -1.0" in refused(model=slow)


@pytest.mark.parametrize("name", CASES)
def test_an_objective_says_what_it_needs_and_logs(name: str) -> None:
    objective = CASES[name].make()
    needs = (type(objective).__doc__ or "").partition("Needs:")[2].partition("\n")[0]
    assert objective.needs_answers == ("answers" in needs)
    assert objective.needs_pairs == ("pairs" in needs)
    assert objective.needs_spans == ("spans" in needs)
    assert objective.needs_teacher == ("teacher" in needs)
    batch = batch_of(CASES[name].groups)
    terms = objective(batch, given(batch), given(batch, seed=1))
    assert set(objective.statistics) == set(terms.statistics)


def test_loss_bounds_are_checked_before_loading() -> None:
    model, bounds = module(), LossBounds(lowest={"forgte": -1.0})
    with pytest.raises(InputError, match="'forgte'"):
        bounds.setup(trainer(), model, "fit")
    assert model.student is None


# -------------------------------------------------------------------------------------- monitors


def boundary() -> Boundary:
    made = Boundary(max_new_tokens=1)
    made.neighbor[0].limit = made.general[0].limit = 1
    return made


@pytest.mark.parametrize(
    ("monitor", "hint"),
    [
        ("loss/retian", "did you mean loss/retain?"),
        ("push/retain", "loss/retain"),
        ("val_loss", "loss/retain"),
        ("grad_cos/forget~retian", "did you mean grad_cos/forget~retain?"),
        ("eval/bounds/neighbour/refused", "did you mean eval/bounds/neighbor/refused?"),
        ("eval/answers/forget/refusal", "did you mean eval/answers/forget/refused?"),
        ("time/step", "did you mean time/step_s?"),
    ],
)
def test_a_mistyped_monitor(monitor: str, hint: str) -> None:
    others = [GradientMonitor(), Throughput(), AnswerEvaluation()]
    others.append(SuiteEvaluation({"bounds": boundary()}))
    for callback in (EarlyStopping(monitor), ModelCheckpoint(monitor=monitor)):
        message = refused(*others, callback)
        assert f"monitor of {type(callback).__name__}" in message
        assert hint in message, message


class Mine(Callback):
    """Logs what only it knows."""


@dataclass(kw_only=True)
class MyAscent(GradientAscent):
    """Has figures that it does not list."""

    statistics = ()


MyAscent.__module__ = "mine"


def test_a_monitor_that_is_known_later_is_not_refused() -> None:
    known = ["loss/retain", "pull/forget", "complied/adversarial", "train/learning_rate"]
    check_run(trainer(*map(EarlyStopping, known)), module(), data_module())
    check_run(trainer(ModelCheckpoint(monitor="step", mode="max")), module(), data_module())
    check_run(trainer(Mine(), EarlyStopping("mine/own")), module(), data_module())
    later = SuiteEvaluation({"again": Relearn()})
    check_run(trainer(later, EarlyStopping("eval/again/x")), module(), data_module())
    model = module()
    model.objectives["retain"] = MyAscent()
    check_run(trainer(EarlyStopping("mine/retain")), model, data_module())
    assert "mine/forget" in refused(EarlyStopping("mine/forget"), model=model)


def test_names_of_figures_are_those_of_the_suite() -> None:
    assert figure_names(boundary()) == {
        f"{group}/{score}" for group in ("neighbor", "general") for score in ("refused", "correct")
    }
    assert figure_names(Relearn()) is None


def test_early_stopping_looks_at_the_steps_that_log_its_monitor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Cosines are logged at steps 0 and 2; patience of one lets it stop at the second."""
    at_once = EarlyStopping("loss/retain", stopping_threshold=100.0)
    trained = fit(tmp_path / "a", module(), [at_once], steps=6)
    assert trained.global_step == 1
    assert "Training ends after step 1 of 6" in caplog.text
    cosines = EarlyStopping("grad_norm/update", mode="max", patience=1, min_delta=1e9)
    assert fit(tmp_path / "b", module(), [GradientMonitor(), cosines], steps=6).global_step == 3


def test_figures_are_monitored_and_in_callback_metrics(tmp_path: Path) -> None:
    """The checkpoint of the last step is written where figures are known at the end alone."""
    suites = SuiteEvaluation({"bounds": boundary()}, subsample=1)
    kept = ModelCheckpoint(tmp_path / "kept", monitor="eval/bounds/neighbor/refused")
    answers = ModelCheckpoint(tmp_path / "more", monitor="eval/answers/forget/refused")
    callbacks = [kept, answers, suites, AnswerEvaluation(max_new_tokens=1)]
    trained = fit(tmp_path, module(), callbacks, steps=2, enable_checkpointing=True)
    assert {"eval/bounds/neighbor/refused", "eval/answers/retain/rouge_l_recall"} <= set(
        trained.callback_metrics
    )
    assert Path(kept.best_model_path).is_file()
    assert Path(answers.best_model_path).is_file()
    assert len(list((tmp_path / "evaluation").iterdir())) == 1


class Averaging(Callback):
    """Changes the weights when training has ended, as Lightning's averages do."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        with torch.no_grad():
            for parameter in pl_module.student.parameters():
                parameter.mul_(0.5)


def test_changed_weights_are_measured_again(tmp_path: Path) -> None:
    asked = AnswerEvaluation(max_new_tokens=1)
    seen: list[Any] = []
    asked_of = asked._record
    asked._record = lambda *a, **k: seen.append(asked_of(*a, **k)) or seen[-1]  # type: ignore
    fit(tmp_path, module(), [Averaging(), asked], steps=1)
    first, last = seen[-2:]
    assert asked.after is last
    assert [f.value for f in first.suites["answers"].figures] != [
        f.value for f in last.suites["answers"].figures
    ]


def test_an_early_end_is_measured_before_checkpoints(tmp_path: Path) -> None:
    suites = SuiteEvaluation({"bounds": boundary()})
    kept = ModelCheckpoint(tmp_path / "kept", monitor="eval/bounds/neighbor/refused")
    stop = EarlyStopping("loss/retain", stopping_threshold=100.0)
    trained = fit(tmp_path, module(), [suites, stop, kept], steps=3, enable_checkpointing=True)
    assert trained.global_step == 1
    assert Path(kept.best_model_path).is_file()
