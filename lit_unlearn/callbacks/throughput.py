"""Throughput: how long a step takes and how much memory the process has needed."""

import resource
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lit_unlearn import schema


class Throughput(Callback):
    """Logs `time/step_s` (wall seconds) and `memory/peak_gib` (peak of the process or GPU)."""

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log both figures."""
        pl_module.log(schema.STEP_SECONDS, time.perf_counter() - self._start, batch_size=1)
        pl_module.log(schema.PEAK_MEMORY, peak_memory_gib(pl_module.device), batch_size=1)


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory in GiB: the allocator's on a GPU, the process's resident set otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
