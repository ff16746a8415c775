"""Fully sharded models (FSDP2): each process holds a slice of every weight.

Each decoder block gathers its weights before its forward and backward pass and frees them
afterwards; everything outside the blocks (embedding, final norm, output head) is a further unit.
Gradients arrive as slices, averaged over processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from lit_unlearn.distributed.ranks import base_model, is_sharded
from lit_unlearn.distributed.slices import fill
from lit_unlearn.utils.library_internals import copied_module

__all__ = ["Sharding", "whole", "whole_state", "whole_tensors"]


@dataclass(frozen=True)
class Sharding:
    """Settings of sharding."""

    mesh: DeviceMesh
    """Mesh of one dimension (processes) or of two (replicas, and processes of a replica)."""
    gather_dtype: torch.dtype | None = None
    """The dtype in which weights are gathered and used; None for the dtype of the weights."""
    offload: bool = False
    """Whether the slices are kept in the CPU's memory."""

    def apply(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        """Shard a causal language model and its decoder blocks in place.

        If the model has no weights yet, its slices are read. A sharded model is unchanged.
        """
        if is_sharded(model):
            return
        offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
        options: dict[str, Any] = {
            "mesh": self.mesh,
            "mp_policy": MixedPrecisionPolicy(self.gather_dtype, torch.float32)
            if self.gather_dtype
            else MixedPrecisionPolicy(),
            "offload_policy": offload if self.offload else OffloadPolicy(),
        }
        for block in blocks:
            fully_shard(block, **options)
        inner: Any = base_model(model)
        # free the weights after a pass without gradient too: EMATeacher moves the slices
        fully_shard(inner, reshard_after_forward=True, **options)
        fill(inner, "cpu" if self.offload else self.mesh.device_type)
        if inner is not model:  # peft calls `forward` alone, without the hooks that gather weights
            adapted: Any = model
            adapted.base_model.forward = inner.__call__


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor in every process; for a sharded one all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a sharded model's state on the CPU: whole in the first process, else empty.

    All processes must call this.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


def whole_tensors(module: nn.Module) -> nn.Module:
    """Return a copy of a small module, such as an output head, with whole tensors.

    All processes must call this, and each gets a copy.
    """
    parameters = {
        name: nn.Parameter(whole(value.detach()), requires_grad=False)
        for name, value in module.named_parameters(recurse=False, remove_duplicate=False)
    }
    children = {name: whole_tensors(part) for name, part in module.named_children()}
    made: nn.Module = copied_module(module, children, parameters)
    return made
