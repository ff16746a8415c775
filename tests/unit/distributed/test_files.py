"""Files of sharded runs: checkpoints, single and in slices, and the exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from lit_unlearn.__main__ import main
from lit_unlearn.callbacks.huggingface_export import HuggingFaceExport
from lit_unlearn.distributed.sharding import whole
from lit_unlearn.distributed.strategy import FSDP2Strategy, check_strategy
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import UncertaintyWeighting
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.merging import merged, shared_weight
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers import AdapterOffTeacher, EMATeacher
from tests.processes import FORKED, in_processes
from tests.small_runs import trainer
from tests.unit.distributed.test_training import data, module, two

pytestmark = pytest.mark.filterwarnings(
    "ignore:`(is_)?gradient_checkpointing(_enable)?` is deprecated",
    # the table of the checkpoint's loader in torch 2.13 names tensors by a deprecated class
    "ignore:TypedStorage is deprecated",
)


def moving() -> Any:
    """A student that is frozen in part; a checkpoint holds an average and learnt weights too."""
    learnt = UncertaintyWeighting(learning_rate=0.1)
    source = ModelSource(TINY_NAME, trainable=["layers"])
    return module(teacher=EMATeacher(0.5), loss_weighting=learnt, source=source)


def state(model: Any) -> dict[str, Any]:
    return {
        "weights": [whole(p.detach()) for p in model.parameters_trained],
        "average": [whole(p.detach()) for p in model.teacher_weights.parameters()],
        "learnt": model.loss_weighting.factors(),
    }


class Saving(Callback):
    """Saves a checkpoint after the second step."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "x.ckpt")


def resumed(folder: Path, sliced: bool) -> list[dict[str, Any]]:
    """A run of three steps; and the last once more, by a new module, from a checkpoint."""
    found = []
    for name, given in (("run", None), ("then", folder / "run" / "x.ckpt")):
        torch.manual_seed(0)
        model, strategy = moving(), FSDP2Strategy(save_distributed_checkpoint=sliced)
        run = two(folder / name, strategy, *([] if given else [Saving()]))
        run.fit(model, datamodule=data(), ckpt_path=given, weights_only=True)
        found.append(state(model))
    return found


@FORKED
@pytest.mark.parametrize("sliced", [False, True])
def test_a_resumed_run_is_the_unbroken_one(sliced: bool, tmp_path: Path) -> None:
    results = in_processes(2, lambda: resumed(tmp_path, sliced), tmp_path / "out", start=False)
    for unbroken, then in results:
        assert_close(then, unbroken, rtol=0, atol=0)
    checkpoint = tmp_path / "run" / "x.ckpt"
    if sliced:
        assert main(["consolidate", str(checkpoint), str(tmp_path / "whole.ckpt")]) == 0
        checkpoint = tmp_path / "whole.ckpt"
    model = moving()  # and one process goes on from it
    run = trainer(tmp_path / "alone", max_steps=3)
    run.fit(model, datamodule=data(), ckpt_path=checkpoint, weights_only=True)
    assert_close(state(model), results[0][0], rtol=1e-5, atol=1e-6)


def exported(folder: Path, lora: LoRA | None, dtype: str | None) -> list[torch.Tensor]:
    source = ModelSource(TINY_NAME, lora=lora)
    teacher = AdapterOffTeacher() if lora else None
    model = module(source=source, teacher=teacher)
    export = HuggingFaceExport(dtype)
    two(folder, FSDP2Strategy(), export, max_steps=2).fit(model, datamodule=data())
    return [whole(p.detach()) for p in model.student.parameters()]


@FORKED
@pytest.mark.parametrize(
    ("lora", "dtype"),
    [
        (None, "bfloat16"),
        # daily: with the head below, and in one process `test_adapters_are_merged_into_the_export`
        pytest.param(LoRA(4), None, marks=pytest.mark.slow),
        (LoRA(4, target_modules=["q_proj", "lm_head"]), None),
    ],
)
def test_export(lora: LoRA | None, dtype: str | None, tmp_path: Path) -> None:
    """The folder holds what the shards hold; adapters are merged."""
    found = in_processes(2, lambda: exported(tmp_path, lora, dtype), tmp_path / "out", start=False)
    expected: Any = load_student(ModelSource(TINY_NAME, lora=lora))
    with torch.no_grad():
        for parameter, trained in zip(expected.parameters(), found[0], strict=True):
            parameter.copy_(trained)
    if lora is not None:
        expected = merged(expected)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.dtype == getattr(torch, dtype or "float32")
    assert shared_weight(loaded) == shared_weight(expected)
    for one, other in zip(loaded.parameters(), expected.parameters(), strict=True):
        assert_close(one, other.detach().to(one.dtype))
    ids = torch.arange(3, 20)[None]
    assert loaded(input_ids=ids).logits.isfinite().all()
    assert loaded.generation_config.eos_token_id == expected.generation_config.eos_token_id


def replicated(folder: Path) -> tuple[list[torch.Tensor], Any]:
    model, export = module(source=ModelSource(TINY_NAME)), HuggingFaceExport()
    run = two(folder, "ddp", export, EMAWeightAveraging(decay=0.5), max_steps=2)
    run.fit(model, datamodule=data())
    return [p.detach() for p in model.student.parameters()], export.comparison


@FORKED
@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model that")
def test_export_of_averaged_replicas(tmp_path: Path) -> None:
    """The first process writes and compares; the callback that averages stands behind."""
    (found, comparison), (_, none) = in_processes(
        2, lambda: replicated(tmp_path), tmp_path / "out", start=False
    )
    assert comparison.same
    assert none is None
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert_close(list(loaded.parameters()), found, rtol=0, atol=0)


def test_averages_of_shards_are_refused(tmp_path: Path) -> None:
    run = two(tmp_path, FSDP2Strategy(), EMAWeightAveraging())
    with pytest.raises(InputError, match=r"should not have EMAWeightAveraging with"):
        check_strategy(run)
    run = trainer(tmp_path, StochasticWeightAveraging(swa_lrs=1e-2), max_steps=3)
    with pytest.raises(InputError, match=r"StochasticWeightAveraging, which copies the model bef"):
        check_strategy(run)


def sliced_adapters(folder: Path) -> None:
    model = module(source=ModelSource(TINY_NAME, lora=LoRA(4)), teacher=AdapterOffTeacher())
    strategy = FSDP2Strategy(save_distributed_checkpoint=True)
    with pytest.raises(InputError, match=r"should be false with `model.student.lora`"):
        two(folder, strategy).fit(model, datamodule=data())


@FORKED
def test_adapters_have_no_sliced_checkpoints(tmp_path: Path) -> None:
    in_processes(2, lambda: sliced_adapters(tmp_path), tmp_path / "out", start=False)
