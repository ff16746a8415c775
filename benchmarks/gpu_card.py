"""The GPU of gpu_check.py: its data, its peak rate, its attention kernels."""

import re
import subprocess
import time
import warnings
from typing import Any

import torch
from cost import machine as machine_of_cost
from gpu_parts import Part, Settings
from lightning.fabric.utilities.throughput import get_available_flops
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from lit_unlearn.models.dtypes import measured_rate, multiplies_bfloat16
from lit_unlearn.planning.devices import DEVICES

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math (eager)": SDPBackend.MATH,
}
HEADS, HEAD_WIDTH = 32, 64
"""Attention heads of Llama-3.2-1B."""


def machine(settings: Settings) -> dict[str, Any]:
    """Return the data of the machine, including the card's name and driver."""
    found: dict[str, Any] = {**machine_of_cost(), "card": "", "driver": "", "tiny": settings.tiny}
    if settings.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found |= {"card": about.name, "GB": about.total_memory / 1e9, "cuda": torch.version.cuda}
        found |= {"capability": f"{about.major}.{about.minor}", "driver": driver()}
    return found


def driver() -> str:
    """Return the version of the card's driver, or a question mark."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "?"
    return said.stdout.splitlines()[0].strip()


def peak_rate(settings: Settings, dtype: torch.dtype) -> tuple[float, str]:
    """Return the TFLOP/s that count as full utilisation, and their source."""
    if settings.device == "cpu":
        return measured_rate(dtype, "cpu"), "rate of a large matrix product, measured"
    name = torch.cuda.get_device_name(0)
    known = data_sheet(name)
    if known is not None:
        sheet = DEVICES[known]
        return (sheet.bf16 if dtype == torch.bfloat16 else sheet.fp32), f"data sheet of {known}"
    found = get_available_flops(torch.device("cuda"), dtype)
    if found is not None:
        return found / 1e12, "Lightning's table of cards"
    return measured_rate(dtype, "cuda"), "rate of a large matrix product, measured"


def data_sheet(card_name: str) -> str | None:
    """Return the name in `DEVICES` of a card with the driver's name, or None.

    The data sheets are those of SXM cards; PCIe and NVL cards of Hopper are slower and give None.
    """
    words = re.split(r"[^a-z0-9]+", card_name.lower().replace("rtx ", "rtx"))
    if {"pcie", "nvl"} & set(words) and {"h100", "h200"} & set(words):
        return None
    return next((name for name in DEVICES if set(name.split("-")) <= set(words)), None)


def card(part: Part, settings: Settings) -> dict[str, Any]:
    """Measure matrix products and the kernels of scaled-dot-product attention."""
    device = torch.device(settings.device)
    native = multiplies_bfloat16(device)
    dtype = torch.bfloat16 if native else torch.float32
    rates = {
        str(kind).removeprefix("torch."): measured_rate(kind, settings.device)
        for kind in {torch.float32, dtype}
    }
    lengths = (16,) if settings.tiny else (128, 1024)
    kernels = [
        {"kernel": name, **{f"{n} tokens": kernel(backend, n, device, dtype) for n in lengths}}
        for name, backend in BACKENDS.items()
    ]
    return {"bfloat16 natively": native, "TFLOP/s measured": rates, "kernels": kernels}


def kernel(
    backend: SDPBackend, length: int, device: torch.device, dtype: torch.dtype
) -> float | None:
    """Return the milliseconds of causal attention, forward and backward; None if refused."""
    shape = (8, HEADS, length, HEAD_WIDTH)
    given = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    shortest = float("inf")
    with warnings.catch_warnings(), sdpa_kernel(backend):
        warnings.simplefilter("ignore")  # they say why a kernel is refused
        for _ in range(5):
            start = time.perf_counter()
            try:
                scaled_dot_product_attention(*given, is_causal=True).sum().backward()
            except RuntimeError:
                return None
            float(given[0].grad.sum())  # type: ignore[union-attr]  # waits for a GPU
            shortest = min(shortest, time.perf_counter() - start)
    return 1e3 * shortest
