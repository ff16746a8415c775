"""The step: Gramian against naive gradients, determinism, resume, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from torch.testing import assert_close

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import (
    MGDA,
    DualAscent,
    Fixed,
    GradVac,
    NGDiff,
    OneSidedProjection,
    PCGrad,
    Weighting,
)
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import LoRA, ModelSource, load_base
from lit_unlearn.objectives import (
    CrossEntropy,
)
from lit_unlearn.teachers import EMATeacher, FrozenTeacher, Teacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.checks import check_trainer
from lit_unlearn.training.setup.teacher_gate import Gate
from tests.small_runs import (
    STEPS,
    Recorder,
    data_module,
    fit,
    losses,
    module,
    trainer,
    weights,
)

Run = tuple[list[dict[str, float]], list[torch.Tensor]]
"""Losses of each step, and weights at the end."""


def whole_run(folder: Path, teacher: Teacher) -> Run:
    model = module(teacher=teacher)
    return losses(fit(folder, model)), weights(model)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    return whole_run(tmp_path_factory.mktemp("unbroken"), FrozenTeacher())


def test_same_seed_same_losses(tmp_path: Path, unbroken: Run) -> None:
    assert whole_run(tmp_path, FrozenTeacher())[0] == unbroken[0]
    assert set(unbroken[0][0]) == {"forget", "adversarial", "retain", "neighbor"}


@pytest.mark.parametrize("teacher", [FrozenTeacher, EMATeacher])
def test_resume_continues_the_unbroken_run(
    tmp_path: Path, unbroken: Run, teacher: type[Teacher]
) -> None:
    """Stopped after 3 of 5 steps and resumed: the same losses and weights, bit by bit."""
    whole = unbroken if teacher is FrozenTeacher else whole_run(tmp_path / "whole", teacher())
    recorder = _fit_and_stop(tmp_path / "part", module(teacher=teacher()), after=3)
    resumed = module(teacher=teacher())
    rest = fit(tmp_path / "part", resumed, resume=tmp_path / "part" / "stopped.ckpt")
    assert losses(recorder) + losses(rest) == whole[0]
    for one, other in zip(whole[1], weights(resumed), strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_resume_keeps_what_weightings_have_learnt(tmp_path: Path, lora: LoRA | None) -> None:
    """GradVac's targets and the dual variables go on from the checkpoint."""

    def made() -> UnlearnModule:
        dual = DualAscent({"retain": None, "neighbor": 0.5}, reference_steps=2)
        return module(GradVac(), lora=lora, loss_weighting=dual)

    unbroken = fit(tmp_path / "whole", made())
    _fit_and_stop(tmp_path / "part", made(), after=3)
    rest = fit(tmp_path / "part", made(), resume=tmp_path / "part" / "stopped.ckpt")
    for expected, found in zip(unbroken.records[3:], rest.records, strict=True):
        assert torch.equal(expected["weights"], found["weights"])
        assert expected["losses"] == found["losses"]


def test_two_sided_weightings_know_the_objectives(tmp_path: Path) -> None:
    fit(tmp_path, module(OneSidedProjection(("forget", "adversarial"))), steps=2)
    with pytest.raises(InputError, match=r"`NGDiff.forget`"):
        module(NGDiff(("froget",)))


class _Stop(Callback):
    """Saves a checkpoint and stops within the run, as an interruption would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.after:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "stopped.ckpt")
            trainer.should_stop = True


def _fit_and_stop(folder: Path, model: UnlearnModule, after: int) -> Recorder:
    recorder = Recorder()
    run = trainer(folder, recorder, _Stop(after), max_steps=STEPS)
    run.fit(model, datamodule=data_module())
    return recorder


def test_gramian_equals_naive_full_gradients(tmp_path: Path) -> None:
    """Each objective's gradient by autograd on the same batch, flattened, in float64."""
    model, data = module(), data_module()
    captured: dict[str, Any] = {}

    class Naive(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: Any, batch: Any, _: int
        ) -> None:
            flat = []
            for name, objective in pl_module.objectives.items():
                reader = ModelReader(pl_module.student)
                terms = objective(batch[name][0], reader, pl_module.teacher)
                gradient = torch.autograd.grad(
                    terms.values.mean(), pl_module.parameters_trained, allow_unused=True
                )
                flat.append(torch.cat([g.double().flatten() for g in gradient if g is not None]))
            stacked = torch.stack(flat)
            captured["gramian"] = stacked @ stacked.T

    recorder = Recorder()
    trainer(tmp_path, Naive(), recorder, max_steps=1).fit(model, datamodule=data)
    found = recorder.records[0]["gramian"].whole
    assert captured["gramian"][3].abs().max() < 1e-8 * captured["gramian"].max()  # zero: at teacher
    scale = captured["gramian"].diagonal().sqrt()
    relative = (found - captured["gramian"]).abs() / (scale[:, None] * scale[None, :] + 1e-12)
    assert relative[:3, :3].max() < 1e-5


def test_diagnosed_steps_change_nothing(tmp_path: Path) -> None:
    """Plain accumulation and kept gradients give the same update, up to rounding."""
    never, always = module(diagnostics_every=0), module(diagnostics_every=1)
    fit(tmp_path / "a", never, steps=2)
    fit(tmp_path / "b", always, steps=2)
    for one, other in zip(weights(never), weights(always), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_micro_batches_accumulate_the_same_loss(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", module(), steps=1)
    parts = fit(tmp_path / "b", module(), data_module(micro_batch_rows=1), steps=1)
    for name, loss in losses(whole)[0].items():
        assert losses(parts)[0][name] == pytest.approx(loss, rel=1e-4, abs=1e-6)
    one, other = (r.records[0]["gramian"].whole for r in (whole, parts))
    torch.testing.assert_close(one[:3, :3], other[:3, :3], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("weighting", [Fixed(), PCGrad(), MGDA()], ids=["fixed", "pcgrad", "mgda"])
def test_weights_are_those_of_the_weighted_gramian(tmp_path: Path, weighting: Weighting) -> None:
    """The rule gets the Gramian of gradients times 1, 0.5, 1 and 0; these multiply its weights."""
    record = fit(tmp_path, module(weighting), steps=1).records[0]
    own = torch.tensor([1, 0.5, 1, 0], dtype=torch.float64)
    weighted = own[:, None] * record["gramian"].whole * own[None, :]
    torch.testing.assert_close(record["weights"], own * weighting(weighted))
    assert (record["weights"][:3] > 0).any()


@pytest.mark.parametrize("every", [0, 1], ids=["added up", "kept"])
def test_zero_weight_moves_nothing(tmp_path: Path, every: int) -> None:
    """The neighbor objective has weight 0: training is the same with another loss in its place."""
    one, other = (module(teacher=EMATeacher(), diagnostics_every=every) for _ in range(2))
    other.objectives["neighbor"] = CrossEntropy(weight=0.0)
    records = [fit(tmp_path, model, steps=2).records for model in (one, other)]
    assert records[0][0]["losses"]["neighbor"] != records[1][0]["losses"]["neighbor"]
    for a, b in zip(weights(one), weights(other), strict=True):
        torch.testing.assert_close(a, b)


def test_teacher_stays_out_of_checkpoint_and_optimizer(tmp_path: Path) -> None:
    model = module()
    fit(tmp_path, model, steps=1, save=True)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(key.startswith("student.") for key in state["state_dict"])
    held = sum(len(group["params"]) for group in state["optimizer_states"][0]["param_groups"])
    assert held == len(model.parameters_trained)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_alone_are_trained_and_saved(tmp_path: Path) -> None:
    model = module(lora=LoRA(rank=2))
    fit(tmp_path, model, steps=1, save=True)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state
    assert all("lora_" in key for key in state)


@pytest.mark.parametrize("stored", ["nowhere", "safetensors", "pickled"])
def test_weights_of_the_start_model_by_name(stored: str, tmp_path: Path) -> None:
    """Of a model in memory, and of files that are read in part or as a whole."""
    model, names = module(), {"model.norm.weight", "model.layers.1.mlp.down_proj.weight"}
    expected: Any = load_base(model.source)
    if stored != "nowhere":
        expected.save_pretrained(tmp_path)
        model.source = ModelSource(str(tmp_path))
    if stored == "pickled":
        torch.save(expected.state_dict(), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    found = model.start_weights(names)
    assert found.keys() == names
    assert_close(found, {n: p.detach() for n, p in expected.named_parameters() if n in names})


def test_bf16_mixed_runs(tmp_path: Path) -> None:
    model = module()
    run = trainer(tmp_path, precision="bf16-mixed", max_steps=1)
    run.fit(model, datamodule=data_module())
    assert weights(model)[0].dtype == torch.float32


def test_names_of_data_and_losses_must_agree(tmp_path: Path) -> None:
    model = module()
    del model.objectives["retain"]
    with pytest.raises(
        InputError, match=r"`data.objectives.retain` has no `model.objectives.retain`"
    ):
        fit(tmp_path, model)


def test_a_missing_teacher_is_known_before_anything_is_prepared(tmp_path: Path) -> None:
    model = module()
    model.teacher = None
    with pytest.raises(InputError, match=r"BidirectionalDistillation needs a teacher\. Found none"):
        fit(tmp_path, model)
    assert not list(tmp_path.iterdir())


def test_missing_max_steps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_steps"):
        trainer(tmp_path, max_steps=-1, max_epochs=-1).fit(module(), datamodule=data_module())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("bf16-true", r"should not be bf16-true.*`model.student.dtype`"),
        ("16-mixed", r"should not be 16-mixed.*Use bf16-mixed"),
    ],
)
def test_trainer_settings_that_cannot_be(settings: str, message: str) -> None:
    check_trainer("bf16-mixed")
    with pytest.raises(InputError, match=message):
        check_trainer(settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data_module(micro_batch_rows=-1), "`data.micro_batch_rows`.*at least 1. Found -1"),
        (lambda: data_module(batch_size=0), "`data.batch_size` should be at least 1"),
        (lambda: data_module(mixing_temperature=0), "`data.mixing_temperature`.*above 0. Found 0"),
        (lambda: data_module(max_length=0), "`data.max_length`"),
        (lambda: data_module(num_workers=-1), "`data.num_workers`"),
        (lambda: module(clip_norm=0.0), r"`model.clip_norm` should be above 0. Found 0.0"),
        (lambda: module(warmup_steps=-1), "`model.warmup_steps`"),
        (lambda: module(diagnostics_every=-1), "`model.diagnostics_every`"),
        (lambda: Gate(declines=1.5), r"`model.gate.declines` should be at least 0 and at most 1"),
        (lambda: Gate(first_token=float("nan")), "`model.gate.first_token`.*Found nan"),
        (lambda: Gate(sample=0), "`model.gate.sample`"),
    ],
)
def test_numbers_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "value"), [("rows", 0), ("answer_tokens", 0), ("evaluation_rows", -1)]
)
def test_numbers_of_an_objective_name_it(name: str, value: int) -> None:
    data = data_module()
    setattr(data.objectives["retain"], name, value)
    with pytest.raises(InputError, match=rf"`data.objectives.retain.{name}` should be"):
        UnlearnDataModule(data.objectives)


def test_objective_without_evaluation_rows_is_not_evaluated() -> None:
    data = data_module()
    data.objectives["adversarial"].evaluation_rows = 0
    data.setup("fit")
    assert set(data.objectives) - set(data.evaluation) == {"adversarial"}


def test_not_a_number_names_objective_and_rows(tmp_path: Path) -> None:
    model = module()
    model.configure_model()
    with torch.no_grad():
        model.parameters_trained[0].fill_(torch.nan)
    with pytest.raises(InputError, match=r"'forget' is not finite at step 0.*forget-train"):
        fit(tmp_path, model)


def test_gate_stops_a_useless_teacher(tmp_path: Path) -> None:
    model = module()
    model.gate = Gate(sample=2, max_new_tokens=4)
    with pytest.raises(InputError, match=r"forget: declines 0% of 2 rows.*`model.gate.declines`"):
        fit(tmp_path, model)
