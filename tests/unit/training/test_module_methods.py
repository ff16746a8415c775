"""The step with sharpness-aware objectives, combinations, noise and alternate answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from lit_unlearn.callbacks import GradientMonitor
from lit_unlearn.callbacks.gradient_monitor import GRADIENT_FILE
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.collect import Gradient, combine
from lit_unlearn.gradients.combination import SAGO, Combination, sign_agreement
from lit_unlearn.gradients.weighting import DualAscent, Fixed, PCGrad, Weighting
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import LoRA, ModelSource, load_base
from lit_unlearn.models.noise import Noise
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import DPO, NPO, CrossEntropy, ForwardKL, Objective, SharpnessAware
from lit_unlearn.teachers import ContrastTeacher, FrozenTeacher, Teacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup import alternates
from lit_unlearn.training.setup.teacher_gate import Gate
from tests.small_runs import trainer

FORGET = [Source("builtin:forget", split="train", limit=4)]
GENERAL = [Source("builtin:general", split="train", limit=4)]


def data(answer: Any = "gold", **options: Any) -> UnlearnDataModule:
    rejected = "gold" if answer == "alternate" else None
    forget = ObjectiveData(FORGET, "decline", 2, answer, ["No."], rejected=rejected)
    forget.answer_tokens = 8
    return UnlearnDataModule(
        {"forget": forget, "retain": ObjectiveData(GENERAL, "answer", 2)}, **options
    )


def module(
    forget: Objective,
    retain: Objective | None = None,
    student: ModelSource | None = None,
    teacher: Teacher | None = None,
    learning_rate: float = 0.1,
    **options: Any,
) -> UnlearnModule:
    return UnlearnModule(
        student or ModelSource(TINY_NAME),
        {"forget": forget, "retain": retain or CrossEntropy(weight=0.5)},
        teacher or FrozenTeacher(),
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.SGD(p, lr=learning_rate),
        **{"clip_norm": None, "diagnostics_every": 0, **options},
    )


class Watch(Callback):
    """Keeps each step's record, the gradient that the optimizer gets, and the weights before it."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.updates: list[Gradient] = []
        self.weights: list[list[torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        trained = pl_module.parameters_trained
        self.updates.append([None if p.grad is None else p.grad.clone() for p in trained])
        self.weights.append([p.detach().clone() for p in trained])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.records.append(outputs)


def fit(
    folder: Path,
    model: UnlearnModule,
    rows: UnlearnDataModule | None = None,
    steps: int = 1,
    *more: Callback,
    resume: Path | None = None,
) -> Watch:
    watch = Watch()
    run = trainer(folder, watch, *more, max_steps=steps)
    run.fit(model, datamodule=rows or data(), ckpt_path=resume)
    run.save_checkpoint(folder / "last.ckpt")
    return watch


class Naive(Callback):
    """The objectives' gradients at the start of the step, by autograd."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, _: int) -> None:
        self.gradients = []
        for name, objective in pl_module.objectives.items():
            reader = ModelReader(pl_module.student)
            terms = objective(batch[name][0], reader, pl_module.teacher)
            gradient = torch.autograd.grad(terms.values.mean(), pl_module.parameters_trained)
            self.gradients.append(list(gradient))


def flat(gradient: Gradient) -> torch.Tensor:
    return torch.cat([g.flatten() for g in gradient if g is not None])


def start_weights() -> list[torch.Tensor]:
    return list(load_base(ModelSource(TINY_NAME)).parameters())


# ------------------------------------------------------------------------------ sharpness-aware


def test_sharpness_touches_its_own_objective_alone(tmp_path: Path) -> None:
    """The update is the forget gradient at moved weights plus half the retain gradient at theta."""
    radius, naive = 0.3, Naive()
    sharp = fit(tmp_path / "a", module(SharpnessAware(NPO(), radius=radius)), None, 1, naive)
    forget, retain = naive.gradients
    length = flat(forget).double().norm()
    moved = module(NPO(), CrossEntropy(weight=0.0))
    moved.configure_model()
    with torch.no_grad():
        for parameter, along in zip(moved.parameters_trained, forget, strict=True):
            assert along is not None
            parameter += radius * along / length
    there = fit(tmp_path / "b", moved)
    expected = flat(there.updates[0]) + 0.5 * flat(retain)
    torch.testing.assert_close(flat(sharp.updates[0]), expected, rtol=1e-3, atol=1e-4)
    for found, plain in zip(sharp.weights[0], start_weights(), strict=True):
        assert torch.equal(found, plain)  # as they were, when the optimizer comes


def test_sharpness_with_micro_batches_and_clipping(tmp_path: Path) -> None:
    whole = module(SharpnessAware(NPO(), radius=0.3), clip_norm=0.5)
    micro = module(SharpnessAware(NPO(), radius=0.3), clip_norm=0.5)
    first = fit(tmp_path / "a", whole)
    second = fit(tmp_path / "b", micro, data(micro_batch_rows=1))
    assert float(flat(first.updates[0]).norm()) == pytest.approx(0.5, rel=1e-4)
    torch.testing.assert_close(
        flat(second.updates[0]), flat(first.updates[0]), rtol=1e-3, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_sharpness_with_adapters_trains(tmp_path: Path) -> None:
    student = ModelSource(TINY_NAME, lora=LoRA(rank=2))
    model = module(SharpnessAware(NPO()), student=student, learning_rate=1e-2)
    watch = fit(tmp_path, model, steps=3)
    losses = [record["losses"]["forget"] for record in watch.records]
    assert losses[0] > 20 * math.log(2)  # that of the reference is the loss at theta
    assert losses[2] < losses[0]


# ----------------------------------------------------------------------------------------- SAGO


@pytest.mark.parametrize("agreed", ["forget", "sum"])
def test_sago_makes_the_update(tmp_path: Path, agreed: Any) -> None:
    naive = Naive()
    watch = fit(tmp_path, module(NPO(), combination=SAGO(agreed=agreed)), None, 1, naive)
    forget, retain = naive.gradients
    half = combine([retain], torch.tensor([0.5]))
    expected = sign_agreement(forget, half, agreed)
    torch.testing.assert_close(flat(watch.updates[0]), flat(expected), rtol=1e-3, atol=1e-5)
    assert flat(watch.updates[0]) @ flat(retain) >= 0


def test_sago_in_the_logs(tmp_path: Path) -> None:
    """All figures but the weights, which have no meaning; no conflict with what is kept."""
    monitor = GradientMonitor(0)
    model = module(NPO(), combination=SAGO(), diagnostics_every=1)
    watch = fit(tmp_path, model, None, 2, monitor)
    assert all(record["weights"].isnan().all() for record in watch.records)
    rows = [json.loads(x) for x in (tmp_path / GRADIENT_FILE).read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[0]["weights"] == [None, None]
    assert -1 <= rows[0]["cosines"][0][1] <= 1
    assert all(norm > 0 for norm in rows[0]["norms"])
    update = flat(watch.updates[0])
    assert rows[0]["update_norm"] == pytest.approx(float(update.norm()), rel=1e-5)
    assert len(rows[0]["update_cosines"]) == 2
    assert -1 <= rows[0]["update_cosines"][0] <= 1
    assert 0 <= rows[0]["update_cosines"][1] <= 1


def test_sago_with_learnt_weights(tmp_path: Path) -> None:
    """A dual variable of 4 multiplies the retain weight of 0.5 before signs are compared."""
    dual = DualAscent({"retain": 1e-3}, step_size=1e-9, initial=4.0)
    naive = Naive()
    model = module(NPO(), combination=SAGO(), loss_weighting=dual)
    watch = fit(tmp_path, model, None, 1, naive)
    forget, retain = naive.gradients
    factor = 0.5 * float(dual.factors()[1])
    assert factor > 0.5
    expected = sign_agreement(forget, combine([retain], torch.tensor([factor])))
    torch.testing.assert_close(flat(watch.updates[0]), flat(expected), rtol=1e-3, atol=1e-4)


class _Remembering(Combination):
    """Counts steps, as a combination that learns would keep its state."""

    learnt = ("steps",)
    steps = 0

    def __call__(self, gradients: Any, preferences: torch.Tensor) -> Gradient:
        self.steps += 1
        return combine(gradients, preferences)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_what_a_combination_learns_is_in_the_checkpoint(tmp_path: Path, lora: Any) -> None:
    student = ModelSource(TINY_NAME, lora=lora)
    fit(tmp_path, module(NPO(), student=student, combination=_Remembering()), steps=2)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["weightings"]
    assert state["combination"]["steps"] == 2


@pytest.mark.parametrize(("weighting", "allowed"), [(Fixed(), True), (PCGrad(), False)])
def test_one_of_weighting_and_combination(weighting: Weighting, allowed: bool) -> None:
    if allowed:
        module(NPO(), weighting=weighting, combination=SAGO())
        return
    with pytest.raises(InputError, match=r"`model.combination` \(SAGO\).*Found PCGrad"):
        module(NPO(), weighting=weighting, combination=SAGO())
    with pytest.raises(InputError, match=r"`SAGO.forget`"):
        module(NPO(), combination=SAGO(("froget",)))


# ------------------------------------------------------------------------- UNDO, WHP and AltPO


def test_undo_starts_damaged_and_is_brought_back(tmp_path: Path) -> None:
    """The teacher is the model without noise, and distillation closes the gap."""
    student = ModelSource(TINY_NAME, noise=Noise(mix=0.5, scale=1.0))
    model = module(ForwardKL(), ForwardKL(), student)
    losses = [r["losses"]["retain"] for r in fit(tmp_path, model, steps=6).records]
    assert losses[0] > 0.1
    assert losses[-1] < losses[0]


def test_contrast_teacher_is_distilled(tmp_path: Path) -> None:
    """The reinforced model is the start model with one of its matrices changed."""
    reinforced: Any = load_base(ModelSource(TINY_NAME))
    with torch.no_grad():
        reinforced.model.layers[1].mlp.down_proj.weight.mul_(3)
    reinforced.save_pretrained(tmp_path / "reinforced")
    teacher = ContrastTeacher(str(tmp_path / "reinforced"))
    model = module(ForwardKL(), ForwardKL(weight=0.0), teacher=teacher, learning_rate=1e-3)
    watch = fit(tmp_path / "run", model, steps=6)
    losses = [record["losses"]["forget"] for record in watch.records]
    assert losses[0] > 1e-3
    assert losses[-1] < losses[0]
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(key.startswith("student.") for key in state)


def test_alternates_are_made_once_by_the_start_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preferred to the gold answer; a resumed run does not ask again; noise does not speak."""
    asked: list[Any] = []

    def replies(model: Any, tokenizer: Any, prompts: Any, **_: Any) -> list[tuple[str, ...]]:
        asked.append(model)
        return [(f"It was quite another thing, {len(prompt)}.",) for prompt in prompts]

    monkeypatch.setattr(alternates, "generate_replies", replies)
    rows = data("alternate")
    fit(tmp_path, module(DPO(), student=ModelSource(TINY_NAME, noise=Noise())), rows)
    assert len(asked) == 1
    for found, plain in zip(asked[0].parameters(), start_weights(), strict=True):
        assert torch.equal(found, plain)
    kept = json.loads((tmp_path / "preparation.json").read_text("utf-8"))["content"]
    stored = kept["answers"]["forget"]
    assert len(set(stored)) > 1
    gold = [example.answer for example in rows.examples["forget"]]
    for (preferred, rejected), text, answer in zip(
        rows.encoded["forget"], stored, gold, strict=True
    ):
        assert preferred.target_count == len(text.encode()) + 1
        assert rejected.target_count == len(answer.encode()) + 1
    again = module(DPO(), student=ModelSource(TINY_NAME, noise=Noise()))
    fit(tmp_path, again, data("alternate"), 2, resume=tmp_path / "last.ckpt")
    assert len(asked) == 1
