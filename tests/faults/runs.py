"""A small training for the tests here, and callbacks that do it harm."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, Trainer

from tests.benchmark_scripts import benchmark

jobs = benchmark("fault_jobs")


class Kick(Callback):
    """Sends the process, the first where there are several, a signal in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM, times: int = 1) -> None:
        self.step, self.number, self.times = step, number, times

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        now = trainer.is_global_zero and trainer.global_step == self.step
        for _ in range(self.times * now):
            os.kill(os.getpid(), self.number)


def small(folder: Path, *callbacks: object, **trainer: object) -> list[str]:
    """`fit` of `jobs.training` without evaluations, and with more callbacks."""
    arguments: list[str] = jobs.training(folder)
    file = Path(arguments[2])
    config = yaml.safe_load(file.read_text("utf-8"))
    kept = ["GradientMonitor", "HuggingFaceExport"]
    config["trainer"] |= {"callbacks": [*kept, *callbacks], **trainer}
    file.write_text(yaml.safe_dump(config), "utf-8")
    return arguments


def kick(step: int, number: int = signal.SIGTERM, times: int = 1) -> dict[str, object]:
    arguments = {"step": step, "number": int(number), "times": times}
    return {"class_path": "tests.faults.runs.Kick", "init_args": arguments}


def without_override() -> None:
    """Root may write anywhere; this process, if it is root's, no longer (Linux: `capset`)."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; lower, then upper half
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE
    assert libc.capset(header, sets) == 0
