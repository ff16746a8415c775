"""Fully sharded models (FSDP2): each process holds a slice of every weight.

Each decoder block gathers its weights before its forward and backward pass and lets them go again;
what lies outside the blocks (embedding, last norm, output head) is one more such unit. Gradients
arrive as slices, averaged over processes.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
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


@dataclass(frozen=True)
class Sharding:
    """How models are sharded."""

    mesh: DeviceMesh
    """Processes in one dimension; or in two: replicas, and processes of a replica."""
    gather_dtype: torch.dtype | None = None
    """Number format in which weights are gathered and read; None for their own."""
    offload: bool = False
    """Keep the slices in the CPU's memory."""

    def apply(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        """Shard a model in place, and read its slices if it has no weights yet.

        One that is sharded already stays as it is.

        Args:
            model: A causal language model, with or without adapters.
            blocks: Its decoder blocks.
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
        # also after a pass without gradient, or an average over it would move stale weights
        fully_shard(inner, reshard_after_forward=True, **options)
        fill(inner, "cpu" if self.offload else self.mesh.device_type)
        if inner is not model:  # peft calls `forward` alone, past the hooks that gather weights
            adapted: Any = model
            adapted.base_model.forward = inner.__call__


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its slices, in every process; for sharded ones all must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of a sharded model, on the CPU: whole in the first process, empty in the others.

    All processes must call this.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


def without_sharding(model: Any) -> Any:
    """A shallow copy of a sharded model, of its own class, which does not gather weights."""
    original: Any = type(model).__bases__[1]  # fully_shard puts a class of its own in front
    copied = original.__new__(original)
    copied.__dict__.update(model.__dict__)
    copied._forward_pre_hooks, copied._forward_hooks = OrderedDict(), OrderedDict()
    return copied


def whole_tensors(module: nn.Module) -> nn.Module:
    """A copy of a small module, such as an output head, with whole tensors, in every process.

    All processes must call this.
    """
    made = copy.copy(module)
    made._parameters = {
        name: None if value is None else nn.Parameter(whole(value.detach()), requires_grad=False)
        for name, value in module._parameters.items()
    }
    made._modules = {
        name: None if part is None else whole_tensors(part)
        for name, part in module._modules.items()
    }
    return made
