"""Private names of Lightning, torch and transformers, each behind one function.

None has a public equivalent in the versions that pyproject admits. tests/unit/utils/
test_library_internals.py tests each assumption, so that a version that breaks one fails there.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode"]
__all__ += ["attention_kind", "copied_module", "copied_weights", "initialize_buffers"]
__all__ += ["interpolate_", "keeps_float32", "local_extent", "look_at_epoch_end", "look_now"]
__all__ += ["onednn_has_bfloat16", "plain_module"]
__all__ += ["processor_has_bfloat16", "refresh_slices", "resume_after_step"]
__all__ += ["saves_by_time", "scale_"]
__all__ += ["set_process_layout", "storage_key", "uses_distributed_sampler"]

# -------------------------------------------------------------------------------------- Lightning


def resume_after_step(trainer: Any, epoch_steps: int) -> None:
    """Set the counts of a resumed trainer to those after its last step, with epochs of that length.

    Lightning restores the counts of the moment in a step's hooks at which the checkpoint was
    written; between two steps or after an epoch it would count a batch twice, and it knows nothing
    of epochs of another length. These counts are those of a checkpoint from `on_train_batch_end`.
    """
    loop, step = trainer.fit_loop, trainer.global_step
    epoch, batch = divmod(step, epoch_steps)
    epochs, batches = loop.epoch_progress, loop.epoch_loop.batch_progress
    begun = batch > 0 or epochs.total.started > epoch  # its first hooks have run
    for counts in (epochs.total, epochs.current):
        counts.ready, counts.started = epoch + 1, epoch + begun
        counts.processed = counts.completed = epoch
    for counts, done in ((batches.total, step), (batches.current, batch)):
        counts.ready = counts.started = counts.processed = done
        counts.completed = done - 1
    batches.is_last_batch = False
    loop.epoch_loop._batches_that_stepped = step - 1


def look_now(stopping: Any, trainer: Any) -> None:
    """Let an EarlyStopping look at its monitor, whatever the hook."""
    stopping._run_early_stopping_check(trainer)


def look_at_epoch_end(stopping: Any, at_end: bool) -> None:
    """Let an EarlyStopping look at the ends of epochs, or else at those of validations."""
    stopping._check_on_train_epoch_end = at_end


def saves_by_time(checkpoint: Any) -> bool:
    """Return whether a ModelCheckpoint has a time interval."""
    return checkpoint._train_time_interval is not None


def uses_distributed_sampler(trainer: Any) -> bool:
    """Return the Trainer's argument `use_distributed_sampler`, which has no public attribute."""
    return bool(trainer._accelerator_connector.use_distributed_sampler)


def set_process_layout(strategy: Any, data_parallel: int) -> None:
    """Let a `ModelParallelStrategy` use all processes for data parallelism.

    Its "auto" means one data-parallel group per node, and the number of processes is unknown when
    the strategy is created.
    """
    strategy._data_parallel_size, strategy._tensor_parallel_size = data_parallel, 1


# ------------------------------------------------------------------------------------------ torch


def copied_module(
    module: nn.Module,
    children: Mapping[str, nn.Module],
    parameters: Mapping[str, nn.Parameter] | None = None,
) -> Any:
    """Return a shallow copy of a module with some parts replaced; the original is unchanged.

    ``setattr`` on a shallow copy would change the original, with which it shares its dictionaries.
    """
    made = copy.copy(module)
    made._modules = {**module._modules, **children}
    made._parameters = {**module._parameters, **(parameters or {})}
    return made


def copied_weights(module: nn.Module, memo: dict[int, Any]) -> Any:
    """Return a copy of a module for ``__deepcopy__`` that shares all attributes except weights."""
    made = module.__class__.__new__(module.__class__)
    memo[id(module)] = made
    parts = {
        n: copy.deepcopy(getattr(module, n), memo) for n in ("_modules", "_parameters", "_buffers")
    }
    made.__dict__.update({**module.__dict__, **parts})
    return made


def plain_module(sharded: Any) -> Any:
    """Return a shallow copy of a sharded module with its original class and without hooks.

    `fully_shard` replaces the class by one that inherits from FSDPModule and the original class,
    and gathers weights in hooks.
    """
    original: Any = type(sharded).__bases__[1]
    copied = original.__new__(original)
    copied.__dict__.update(sharded.__dict__)
    copied._forward_pre_hooks, copied._forward_hooks = OrderedDict(), OrderedDict()
    return copied


def refresh_slices(model: nn.Module) -> None:
    """Let a sharded model use parameters that were replaced after `fully_shard`."""
    model._apply(lambda tensor: tensor)


def local_extent(tensor: DTensor) -> tuple[Sequence[int], Sequence[int]]:
    """Return the shape of this process's part of a tensor, and the index of its first element."""
    return compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )


def scale_(tensors: list[Tensor], factor: float) -> None:
    """Multiply tensors in place; one kernel for all of them."""
    torch._foreach_mul_(tensors, factor)


def interpolate_(tensors: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Move tensors towards others in place, ``a <- a + weight (b - a)``; one kernel for all."""
    torch._foreach_lerp_(tensors, ends, weight)


def onednn_has_bfloat16() -> bool:
    """Return whether oneDNN computes in bfloat16; on AVX-512 this can be an emulation."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def processor_has_bfloat16() -> bool:
    """Return whether an x86 processor has instructions for products in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def storage_key(tensor: Tensor) -> int:
    """Return a number that all views of a storage share while it exists."""
    return int(tensor.untyped_storage()._cdata)


# ----------------------------------------------------------------------------------- transformers


def attention_kind(model: Any) -> str | None:
    """Return the attention implementation, such as `sdpa`; None if it cannot be replaced."""
    if not getattr(model, "_supports_attention_backend", False):
        return None
    found: str | None = model.config.get_text_config()._attn_implementation
    return found


def keeps_float32(model: Any, dtype: torch.dtype) -> bool:
    """Return whether ``from_pretrained`` would load some weights in float32 despite ``dtype``."""
    return dtype != torch.float32 and bool(model._get_dtype_plan(dtype))


def initialize_buffers(model: Any, parts: Iterable[nn.Module]) -> None:
    """Let transformers compute the buffers of some modules again, such as rotary frequencies."""
    for part in parts:
        setattr(part, "_is_hf_initialized", False)  # noqa: B010 - no attribute of nn.Module
    model.initialize_weights()
