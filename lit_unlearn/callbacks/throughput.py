"""Throughput: time, tokens, arithmetic and memory of a step."""

import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.throughput import get_available_flops
from torch import Tensor, nn

from lit_unlearn import log_names
from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.errors import check_number
from lit_unlearn.models.forward import output_head
from lit_unlearn.models.packing import packable, rows_read
from lit_unlearn.types import TokenBatch

__all__ = ["PHASES", "Throughput", "computed_positions", "model_operations", "peak_memory_gib"]

PHASES = ("data", "teacher", "forward", "backward", "gradients", "optimizer")


class Throughput(Callback):
    """Log of time, tokens, arithmetic and memory of each step; the slowest process gives the time.

    `time/step_s` is the wall time of a step, and `time/PHASE_s` its parts: `data` (waiting for the
    batch), `teacher` (its models; with a cache, only the output head), `forward` (student and
    losses; also an AdapterOffTeacher), `backward`, `gradients` (diagnostics, weighting and
    clipping) and `optimizer`. On a GPU, `time/*` are the times in which the process gives it work.

    `throughput/student_tokens_per_s` and `throughput/teacher_tokens_per_s` count real tokens of the
    rows, also those that the teacher reads from a cache; `throughput/padding_share` is the share of
    padding among the positions that the student computes. `memory/peak_gib` is the peak of the
    process or GPU.

    `throughput/model_tflops` is (4 B + 2 B') T + (4 H + 2 H') N operations, divided by the
    step's seconds. B is the number of parameters between embedding and head, of which B' are
    trained; H and H' are those of the head; T counts the student's tokens up to each row's last
    prediction, N its predictions.
    Every step needs these operations (Chowdhery et al. 2022, arXiv 2204.02311, appendix B, without
    attention): one forward and backward pass, no teacher, no scoring of candidates, no
    recomputation. `throughput/mfu` is this rate as a share of the device's peak.

    Args:
        peak_tflops: Peak of the device in 10^12 operations a second, for the dtype in use; null
            takes Lightning's table of GPUs for half precision; other devices get no share.
    """

    def __init__(self, peak_tflops: float | None = None) -> None:
        check_number("peak_tflops", peak_tflops, 0, above=True)
        self.peak_tflops = peak_tflops
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase, self._mark = "data", 0.0
        self._handles: list[Any] = []

    def _enter(self, phase: str) -> None:
        """End the current phase and begin another."""
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._mark
        self._phase, self._mark = phase, now

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        student, teacher = pl_module.student, pl_module.teacher
        taught: list[Any] = [] if teacher is None else [*teacher.models(), teacher.unsaved_module()]
        for model in dict.fromkeys(m for m in taught if m is not None and m is not student):
            self._watch(model, "teacher")
        self._watch(student, "forward")
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase, self._mark = "data", time.perf_counter()

    def _watch(self, model: nn.Module, phase: str) -> None:
        """Count a model's forward passes to a phase, and the time after them to `forward`."""
        self._handles.append(model.register_forward_pre_hook(lambda *_: self._enter(phase)))
        self._handles.append(model.register_forward_hook(lambda *_: self._enter("forward")))

    def on_train_end(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def on_train_batch_start(self, *_: Any) -> None:
        self._enter("forward")

    def on_before_backward(self, *_: Any) -> None:
        self._enter("backward")

    def on_after_backward(self, *_: Any) -> None:
        self._enter("gradients")

    def on_before_optimizer_step(self, *_: Any) -> None:
        self._enter("optimizer")

    def scalar_names(self, objectives: object, data: object) -> Iterator[str]:
        """Yield the names of the scalars that this callback logs at every step."""
        yield from map(log_names.phase_name, PHASES)
        yield from (log_names.STEP_SECONDS, log_names.PEAK_MEMORY, log_names.STUDENT_TOKENS)
        yield from (log_names.TEACHER_TOKENS, log_names.MODEL_TFLOPS, log_names.PADDING_SHARE)
        yield log_names.MFU

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._enter("data")
        seconds, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        step = sum(seconds.values())
        slowest = {log_names.phase_name(phase): spent for phase, spent in seconds.items()}
        slowest[log_names.STEP_SECONDS] = step
        slowest[log_names.PEAK_MEMORY] = peak_memory_gib(pl_module.device)
        pl_module.log_dict(slowest, batch_size=1, sync_dist=True, reduce_fx="max")
        own = [(n, b) for n, parts in batch.items() for b in parts if not b.borrowed]
        known = pl_module.objectives
        asked = [tokens for name, part in own for tokens in known[name].teacher_inputs(part)]
        batches = [part for _, part in own]
        real = sum(int(b.student.attention_mask.sum()) for b in batches)
        teacher = sum(int(tokens.attention_mask.sum()) for tokens in asked)
        rates = {
            log_names.STUDENT_TOKENS: real / step,
            log_names.TEACHER_TOKENS: teacher / step,
            log_names.MODEL_TFLOPS: model_operations(pl_module.student, batches) / step / 1e12,
        }
        pl_module.log_dict(rates, batch_size=1, sync_dist=True, reduce_fx="sum")
        computed = computed_positions(pl_module.student, batches)
        shares = {log_names.PADDING_SHARE: 1 - real / computed if computed else 0.0}
        peak = self.peak_tflops or _peak_tflops(pl_module.device)
        if peak is not None:
            shares[log_names.MFU] = rates[log_names.MODEL_TFLOPS] / peak
        pl_module.log_dict(shares, batch_size=1, sync_dist=True)


def computed_positions(student: nn.Module, batches: Sequence[TokenBatch]) -> int:
    """Count positions of the student's passes: real tokens, and padding if it cannot pack."""
    total = 0
    for batch in batches:
        mask = batch.student.attention_mask
        packs = packable(student, mask.shape[1])
        total += int(mask.sum()) if packs else mask.numel()
    return total


def model_operations(student: nn.Module, batches: Sequence[TokenBatch]) -> float:
    """Return floating-point operations of a forward and backward pass, as in `Throughput`."""
    model: Any = base_model(student)
    outside = {id(p) for p in model.get_input_embeddings().parameters()}
    head = list(output_head(model).parameters())
    outside |= {id(p) for p in head}
    body = [p for p in student.parameters() if id(p) not in outside]
    tokens = sum(len(row) for batch in batches for row in rows_read(batch.student))
    predictions = sum(len(batch.student.rows) for batch in batches)
    return _factor(body) * tokens + _factor(head) * predictions


def _factor(parameters: Sequence[Tensor]) -> int:
    """Return the operations of one token: 4 per parameter, and 2 more if it is trained."""
    return sum(p.numel() * (6 if p.requires_grad else 4) for p in parameters)


def _peak_tflops(device: torch.device) -> float | None:
    """Return the peak from Lightning's table, or None for a device that is not in it."""
    found = get_available_flops(device, torch.bfloat16) if device.type == "cuda" else None
    return None if found is None else found / 1e12


def peak_memory_gib(device: torch.device) -> float:
    """Return peak memory in GiB: the allocator's on a GPU, otherwise the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
