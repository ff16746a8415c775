"""The strategy `fsdp2` of `--trainer.strategy`, and a check of the strategies that can be used."""

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    StrategyRegistry,
)
from lightning.pytorch.utilities import rank_zero_info
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lit_unlearn.distributed.sharding import Sharding
from lit_unlearn.errors import InputError
from lit_unlearn.utils.library_internals import set_process_layout, uses_distributed_sampler

__all__ = ["FSDP2Strategy", "by_alias", "check_averaging", "check_strategy", "local_gradients"]

NAME, ALIAS = "fsdp2", "fsdp"


class FSDP2Strategy(ModelParallelStrategy):
    """Strategy that shards student and teacher over all processes (`fully_shard` of torch).

    Args:
        replicas: Copies of the model, each sharded over an equal part of the processes (HSDP);
            1 shards over all of them. On several nodes, one replica per node gathers weights
            inside nodes only.
        gather_dtype: The dtype in which weights are gathered and used: `bfloat16` for half the
            traffic; null for the dtype of the weights. With `bf16-mixed`, `bfloat16` saves the copy
            of all weights that autocast keeps on every device until the backward pass. It rounds
            embeddings, norms and the sums between blocks, which autocast leaves in float32.
            Gradients are averaged in float32.
        cpu_offload: Keep weights, gradients and optimizer states in the CPU's memory.
        save_distributed_checkpoint: Write a checkpoint as a folder of every process's slices;
            false assembles one file in the first process.
        timeout_minutes: Minutes that a process waits for the others before the run fails.
    """

    def __init__(
        self,
        replicas: int = 1,
        gather_dtype: Literal["bfloat16"] | None = None,
        cpu_offload: bool = False,
        save_distributed_checkpoint: bool = False,
        timeout_minutes: float = 30.0,
    ) -> None:
        super().__init__(
            save_distributed_checkpoint=save_distributed_checkpoint,
            timeout=timedelta(minutes=timeout_minutes),
        )
        self.replicas, self.gather_dtype, self.cpu_offload = replicas, gather_dtype, cpu_offload
        self.save_distributed_checkpoint = save_distributed_checkpoint

    def setup_environment(self) -> None:
        """Start the process group, and give the module its sharding settings."""
        world = self.num_nodes * self.num_processes
        self.check_replicas(world)
        set_process_layout(self, world)
        super().setup_environment()
        mesh = self.device_mesh["data_parallel"]
        if self.replicas > 1:
            shape, names = (self.replicas, world // self.replicas), ("replicate", "shard")
            mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)
        dtype = None if self.gather_dtype is None else getattr(torch, self.gather_dtype)
        module: Any = self.lightning_module
        module.sharding = Sharding(mesh, dtype, self.cpu_offload)

    def check_replicas(self, world: int) -> None:
        """Check that the number of processes is a multiple of the number of replicas."""
        if self.replicas < 1 or world % self.replicas:
            raise InputError(
                "Parameter `trainer.strategy.init_args.replicas` should divide the number of "
                f"processes, {world}. Found {self.replicas}."
            )

    def _get_process_group_backend(self) -> str:
        # offloaded slices are added up on the CPU, all others on the accelerator
        accelerated = self.cpu_offload and self.root_device.type == "cuda"
        return "cpu:gloo,cuda:nccl" if accelerated else super()._get_process_group_backend()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state by parameter names, since Lightning's numbers count frozen ones too."""
        options = StateDictOptions(
            full_state_dict=not self.save_distributed_checkpoint, cpu_offload=True
        )
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        module: Any = self.model
        return get_optimizer_state_dict(module, inner, options=options)

    def model_to_device(self) -> None:
        """Move tensors that are not sharded, such as buffers; offloaded slices stay on the CPU."""
        if not self.cpu_offload:
            super().model_to_device()
            return
        module: Any = self.lightning_module
        for part in (part for model in module.models_read() for part in model.modules()):
            for name, buffer in part.named_buffers(recurse=False):
                setattr(part, name, buffer.to(self.root_device))


def by_alias(strategy: Any) -> Any:
    """Return `fsdp2` for `fsdp`, and log that; return any other strategy unchanged."""
    if strategy != ALIAS:
        return strategy
    rank_zero_info(
        f"--trainer.strategy {ALIAS} means {NAME} here: torch's fully_shard, with one unit per "
        "decoder block. Lightning's own is the older FSDP."
    )
    return NAME


def check_strategy(trainer: Trainer, *, adapters: bool = False) -> None:
    """Check that the strategy of a run, which may train adapters, can be used."""
    strategy: Any = trainer.strategy
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy | FSDP2Strategy):
        raise InputError(
            f"Parameter `trainer.strategy` should be auto, ddp or {NAME}. Found a "
            f"{type(strategy).__name__}, which gives no gradients of single objectives."
        )
    if isinstance(strategy, FSDP2Strategy):
        strategy.check_replicas(trainer.world_size)
    if adapters and getattr(strategy, "save_distributed_checkpoint", False):
        raise InputError(
            "Parameter `trainer.strategy.init_args.save_distributed_checkpoint` should be false "
            "with `model.student.lora`: a checkpoint has only the adapters. Found true."
        )
    check_averaging(trainer)
    if trainer.world_size > 1 and uses_distributed_sampler(trainer):
        raise InputError(
            "Parameter `trainer.use_distributed_sampler` should be false: the data module "
            "distributes the rows of each step. Found true, with "
            f"{trainer.world_size} processes."
        )


def check_averaging(trainer: Trainer) -> None:
    """Check that callbacks can average the weights of this run, or raise an `InputError`."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, StochasticWeightAveraging):
            raise InputError(
                f"Parameter `trainer.callbacks` should not have {name}, which copies the model "
                "before its weights are loaded, and would average nothing. Use WeightAveraging or "
                "EMAWeightAveraging, which average after each step."
            )
        if isinstance(callback, WeightAveraging) and isinstance(trainer.strategy, FSDP2Strategy):
            raise InputError(
                f"Parameter `trainer.callbacks` should not have {name} with `trainer.strategy` "
                f"{NAME}: Lightning does not average sharded models. Use another strategy."
            )


def local_gradients(trainer: Trainer) -> AbstractContextManager[None]:
    """Return a context manager within which DDP does not average gradients over processes.

    An objective may have rows in some processes only, or may not use some weights. DDP's averaging
    supports neither, so the training step adds up gradients itself.
    """
    model = trainer.strategy.model
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


StrategyRegistry.register(
    NAME, FSDP2Strategy, description="student and teacher sharded over all processes"
)
