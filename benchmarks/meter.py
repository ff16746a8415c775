"""Meter: seconds, losses, operations and memory of the steps of a run, for benchmarks."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lit_unlearn.callbacks.throughput import model_operations
from lit_unlearn.distributed.sharding import whole_state
from lit_unlearn.models.tiny import tiny_model

FILE, WEIGHTS = "meter.json", "weights.pt"


class Meter(Callback):
    """Callback that writes `FILE` into the run's folder.

    `before` is the memory of the device before the model was loaded, `peak` its maximum from the
    second step on, in bytes: on a GPU by torch's allocator (`reserved` includes free blocks), on a
    CPU by the resident set. `ready` is the wall seconds up to the first step. `steps` has for each
    step wall and CPU seconds, losses, whether it was diagnosed, and its operations as `Throughput`
    counts them.

    Args:
        weights: Also write the trained model's weights.
    """

    def __init__(self, weights: bool = False) -> None:
        self.weights = weights
        self.steps: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Train a tiny model for a step, so that all libraries are loaded; note the memory."""
        self.device = trainer.strategy.root_device
        tiny: Any = tiny_model()
        tiny.to(self.device)
        tiny(
            input_ids=torch.zeros(1, 2, dtype=torch.int64, device=self.device)
        ).logits.sum().backward()
        torch.optim.AdamW(tiny.parameters()).step()
        del tiny
        self.before = held(self.device)
        self.began = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clocks; the peak counts from the second step on."""
        if batch_idx == 0:
            self.ready = time.perf_counter() - self.began
        if batch_idx == 1:
            forget_peak(self.device)
        self.start = clocks(self.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        wall, cpu = (
            end - start for end, start in zip(clocks(self.device), self.start, strict=True)
        )
        parts = [part for own in batch.values() for part in own]
        self.steps.append(
            {
                "wall": wall,
                "cpu": cpu,
                "losses": outputs["losses"],
                "diagnosed": outputs["gramian"] is not None,
                "operations": model_operations(pl_module.student, parts),
                "tokens": sum(int(part.student.attention_mask.sum()) for part in parts),
            }
        )

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        found = {"before": self.before, "ready": self.ready, "steps": self.steps}
        folder = Path(trainer.default_root_dir)
        (folder / FILE).write_text(json.dumps(found | peaks(self.device)))
        if self.weights:
            torch.save(whole_state(pl_module.student), folder / WEIGHTS)


def clocks(device: torch.device) -> tuple[float, float]:
    """Return wall and CPU seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def held(device: torch.device) -> int:
    """Return the bytes that are allocated now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else status("VmRSS")


def forget_peak(device: torch.device) -> None:
    """Reset the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peaks(device: torch.device) -> dict[str, int]:
    """Return the maximum of allocated and of reserved bytes."""
    if device.type != "cuda":
        return {"peak": status("VmHWM"), "reserved": 0}
    return {
        "peak": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
    }


def status(name: str) -> int:
    """Return a line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
