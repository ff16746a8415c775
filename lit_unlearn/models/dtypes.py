"""Dtypes chosen by the device: bfloat16 if it is multiplied natively, else float32.

On a device without bfloat16 instructions a product in bfloat16 is emulated: on AVX2 cores it is
about 30 times slower than in float32.
"""

import platform
import time
from functools import lru_cache
from typing import Literal

import torch

from lit_unlearn.utils.library_internals import onednn_has_bfloat16, processor_has_bfloat16

__all__ = ["DType", "SavedDType"]
__all__ += ["measured_rate", "multiplies_bfloat16", "precision_for", "resolve_dtype"]
__all__ += ["times_slower_in_bfloat16"]

DType = Literal["auto", "float32", "bfloat16", "float16"]
SavedDType = Literal["float32", "bfloat16", "float16"]
"""Dtype of written weights."""

AMPERE = (8, 0)
"""Compute capability of the first CUDA devices that multiply bfloat16."""


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for matrix products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    if device.type != "cpu" or not onednn_has_bfloat16():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    # oneDNN's check passes on every AVX-512 processor; without these instructions it emulates
    return processor_has_bfloat16() and torch.backends.cpu.get_cpu_capability().startswith(
        ("AVX512", "AMX")
    )


def resolve_dtype(dtype: DType, device: torch.device | None = None) -> torch.dtype:
    """Return the dtype that a setting means on a device, or on torch's default device.

    ``auto`` is bfloat16 if the device multiplies it natively, else float32.
    """
    if dtype != "auto":
        found: torch.dtype = getattr(torch, dtype)
        return found
    native = multiplies_bfloat16(device or torch.get_default_device())
    return torch.bfloat16 if native else torch.float32


def precision_for(device: torch.device) -> Literal["bf16-mixed", "32-true"]:
    """Return the trainer's precision that ``auto`` means on a device."""
    return "bf16-mixed" if multiplies_bfloat16(device) else "32-true"


def times_slower_in_bfloat16(device: torch.device) -> float:
    """Measure how many times longer a matrix product takes in bfloat16 than in float32."""
    return measured_rate(torch.float32, device.type) / measured_rate(torch.bfloat16, device.type)


@lru_cache
def measured_rate(dtype: torch.dtype, device: str) -> float:
    """Measure the TFLOP/s of a large square matrix product; return the best of several runs.

    On the ``cpu`` all threads of torch are used.
    """
    size = 512 if device == "cpu" else 8192
    one = torch.ones(size, size, dtype=dtype, device=device)
    shortest, until = float("inf"), time.perf_counter() + 0.5
    runs = 0
    while runs < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        torch.mm(one, one)[0, 0].item()  # waits for a GPU
        shortest = min(shortest, time.perf_counter() - start)
        runs += 1
    return 2 * size**3 / shortest / 1e12
