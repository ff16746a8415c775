"""What we assume about private names of Lightning, torch and transformers, one test each."""

from __future__ import annotations

import copy
import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from jsonargparse import ArgumentParser
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lit_unlearn.models.tree_attention import attention, register_sdpa
from lit_unlearn.utils import library_internals as internals
from tests.processes import FORKED, in_processes

# -------------------------------------------------------------------------------------- Lightning


class Logged(BoringModel):
    """Two steps an epoch; keeps Lightning's counts of epochs, batches and logged steps."""

    def __init__(self, corrected: bool = False, save: Path | None = None) -> None:
        super().__init__()
        self.corrected, self.save = corrected, save
        self.counts: list[tuple[int, int, int]] = []

    def train_dataloader(self) -> Any:
        if self.corrected and self.trainer.fit_loop.restarting:
            internals.resume_after_step(self.trainer, 2)
        return super().train_dataloader()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        loop = self.trainer.fit_loop
        found = (self.current_epoch, loop.total_batch_idx, loop.epoch_loop._batches_that_stepped)
        self.counts.append(found)
        if len(self.counts) == 2 and self.save is not None:
            self.trainer.save_checkpoint(self.save)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("corrected", [False, True])
def test_a_checkpoint_between_steps_counts_its_last_batch_twice(
    tmp_path: Path, corrected: bool
) -> None:
    options: dict[str, Any] = {
        "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_steps": 4,
        "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0,
        "limit_train_batches": 2,
    }  # fmt: skip
    model, resumed = Logged(save=tmp_path / "one.ckpt"), Logged(corrected)
    Trainer(**options).fit(model)
    assert model.counts == [(0, 0, 0), (0, 1, 1), (1, 2, 2), (1, 3, 3)]
    Trainer(**options).fit(resumed, ckpt_path=tmp_path / "one.ckpt")
    twice = [(0, 2, 2), (1, 3, 3), (1, 4, 4)]
    assert resumed.counts == (model.counts[1:] if corrected else twice)


def test_checkpoints_by_time() -> None:
    hour = timedelta(hours=1)
    assert internals.saves_by_time(ModelCheckpoint(train_time_interval=hour))
    assert not internals.saves_by_time(ModelCheckpoint(every_n_train_steps=1))


def test_early_stopping_looks_where_it_is_told() -> None:
    stopping = EarlyStopping("loss", patience=0)
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[stopping], barebones=False)
    trainer.callback_metrics["loss"] = torch.tensor(1.0)
    internals.look_now(stopping, trainer)
    internals.look_now(stopping, trainer)
    assert trainer.should_stop
    internals.look_at_epoch_end(stopping, False)
    assert "self._check_on_train_epoch_end" in inspect.getsource(EarlyStopping.on_train_epoch_end)
    assert "self._check_on_train_epoch_end" in inspect.getsource(EarlyStopping.on_validation_end)


@pytest.mark.parametrize("given", [False, True])
def test_the_trainer_remembers_the_distributed_sampler(given: bool) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, use_distributed_sampler=given)
    assert internals.uses_distributed_sampler(trainer) is given


def test_sizes_of_a_model_parallel_strategy() -> None:
    """The names that its constructor sets, and that `setup_environment` reads unless "auto"."""
    strategy = ModelParallelStrategy()
    assert strategy._data_parallel_size == strategy._tensor_parallel_size == "auto"
    internals.set_process_layout(strategy, 4)
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (4, 1)


def test_methods_that_we_override_are_called() -> None:
    """A renamed one would be ignored without a word."""
    source = inspect.getsource(ModelParallelStrategy)
    assert "self._get_process_group_backend()" in source
    assert "self._instantiate_trainer(" in inspect.getsource(LightningCLI)
    assert "self._apply(" in inspect.getsource(nn.Module.to)


# ------------------------------------------------------------------------------------------ torch


def test_a_copied_module_leaves_the_original_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU())
    weight = nn.Parameter(torch.ones(3, 2))
    linear = internals.copied_module(module[0], {}, {"weight": weight})
    made = internals.copied_module(module, {"0": linear})
    assert made[0].weight is weight
    assert made[1] is module[1]
    assert module[0].weight is not weight
    assert torch.equal(made(torch.ones(2)), torch.full((3,), 2.0))


def _sharded() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    expected = [p.detach().clone() for p in model.parameters()]
    sharded: Any = fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    assert type(sharded).__bases__ == (FSDPModule, nn.Sequential)

    plain = internals.plain_module(sharded)
    assert type(plain) is nn.Sequential
    assert not plain._forward_pre_hooks
    assert sharded._forward_pre_hooks
    assert plain[0] is sharded[0]

    for parameter, whole in zip(sharded.parameters(), expected, strict=True):
        assert isinstance(parameter, DTensor)
        shape, (first, *_) = internals.local_extent(parameter)
        local = parameter.to_local()
        assert local.shape == shape
        assert torch.equal(local, whole[first : first + len(local)])

    sharded[0].weight = nn.Parameter(torch.zeros_like(sharded[0].weight))
    internals.refresh_slices(sharded)
    assert torch.equal(sharded(torch.ones(2, 3)), sharded(torch.zeros(2, 3)))


@FORKED
def test_sharded_modules(tmp_path: Path) -> None:
    """Class and hooks can be left out, slices located, and exchanged parameters taken up."""
    in_processes(2, _sharded, tmp_path)


def test_many_tensors_in_place() -> None:
    tensors = [torch.ones(2), torch.full((1,), 3.0)]
    internals.scale_(tensors, 2.0)
    assert [t.tolist() for t in tensors] == [[2, 2], [6]]
    internals.interpolate_(tensors, [torch.zeros(2), torch.full((1,), 10.0)], 0.25)
    assert [t.tolist() for t in tensors] == [[1.5, 1.5], [7]]


def test_storage_key() -> None:
    whole, other = torch.ones(4), torch.ones(4)
    assert internals.storage_key(whole) == internals.storage_key(whole[1:])
    assert internals.storage_key(whole) != internals.storage_key(other)


def test_what_a_processor_says_of_bfloat16() -> None:
    """The names exist and answer; oneDNN computes in it wherever the processor multiplies it."""
    assert isinstance(internals.processor_has_bfloat16(), bool)
    if internals.processor_has_bfloat16():
        assert internals.onednn_has_bfloat16()


def test_options_of_a_parser() -> None:
    """What `cli.mistakes` reads; it may not import torch, and so not the file of these names."""
    parser = ArgumentParser()
    parser.add_argument("--rows", type=int | None)
    found = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    assert found["rows"] == int | None
    assert found["help"] is None


def test_dispatch_mode_sees_operations() -> None:
    seen: list[str] = []

    class Mode(internals.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.ones(2) + 1
    assert "aten.add.Tensor" in seen


# ----------------------------------------------------------------------------------- transformers


def test_attention_kind(tiny_model: PreTrainedModel) -> None:
    assert internals.attention_kind(tiny_model) == "sdpa"
    tiny_model.set_attn_implementation("eager")
    assert internals.attention_kind(tiny_model) == "eager"
    assert internals.attention_kind(nn.Linear(1, 1)) is None


def test_another_sdpa_is_run(tiny_model: PreTrainedModel) -> None:
    """Options of a forward pass reach it, and masks are made as for the original."""
    seen: list[Any] = []

    def spy(*inputs: Any, **options: Any) -> Any:
        seen.append(options.get("mine"))
        return sdpa_attention_forward(*inputs, **options)

    ids = torch.ones(1, 3, dtype=torch.long)
    expected = tiny_model(input_ids=ids).logits
    register_sdpa(spy)
    try:
        assert torch.equal(tiny_model(input_ids=ids, mine=5).logits, expected)
    finally:
        register_sdpa(attention)
    assert seen == [5] * tiny_model.config.num_hidden_layers


def test_weights_that_stay_float32(tiny_model: PreTrainedModel) -> None:
    class Careful(LlamaForCausalLM):
        _keep_in_fp32_modules_strict = ("down_proj",)

    careful = Careful(tiny_model.config)
    assert internals.keeps_float32(careful, torch.bfloat16)
    assert not internals.keeps_float32(careful, torch.float32)
    assert not internals.keeps_float32(tiny_model, torch.bfloat16)


def test_buffers_are_computed_again(tiny_model: PreTrainedModel) -> None:
    """Rotary frequencies as they were, and no weight changed."""
    model: Any = tiny_model
    rotary = model.model.rotary_emb
    frequencies, state = rotary.inv_freq.clone(), copy.deepcopy(model.state_dict())
    model.initialize_weights()  # all is marked as initialised from here on
    rotary.inv_freq = torch.full_like(frequencies, 7.0)
    for part in model.modules():
        part._is_hf_initialized = True
    internals.initialize_buffers(model, [rotary])
    assert torch.equal(rotary.inv_freq, frequencies)
    torch.testing.assert_close(model.state_dict(), state)
