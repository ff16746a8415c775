"""Devices by name: what their makers state, and one core of a CPU as it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lit_unlearn.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Device:
    """What a device can do at most."""

    memory: float | None
    """Gigabytes of 10^9 bytes; None where it depends on the machine."""
    bf16: float
    """TFLOP/s of dense matrix products in bfloat16 (accumulated in float32)."""
    fp32: float
    """TFLOP/s of matrix products in float32, without TF32, which torch leaves off."""
    bandwidth: float
    """GB/s of its memory."""
    link: float
    """GB/s to another device, in one direction."""
    source: str
    utilisation: float = 0.4
    """Share of the peak that a training step's matrix products reach, if nothing else is said. For
    GPUs a customary value that nothing here has measured."""
    kind: Literal["cpu", "gpu"] = "gpu"

    def rate(self, element_bytes: int) -> float:
        """TFLOP/s in a number format of so many bytes."""
        return self.bf16 if element_bytes == 2 else self.fp32


_NVIDIA = "https://www.nvidia.com/en-us"

DEVICES = {
    "h100": Device(80, 989.4, 66.9, 3350, 450, f"{_NVIDIA}/data-center/h100/ (SXM; dense)"),
    "h200": Device(141, 989.4, 66.9, 4800, 450, f"{_NVIDIA}/data-center/h200/ (SXM; dense)"),
    "a100-80gb": Device(80, 312, 19.5, 2039, 300, f"{_NVIDIA}/data-center/a100/ (SXM)"),
    "a100-40gb": Device(40, 312, 19.5, 1555, 300, f"{_NVIDIA}/data-center/a100/ (SXM)"),
    "l40s": Device(48, 362.05, 91.6, 864, 32, f"{_NVIDIA}/data-center/l40s/ (dense)"),
    "rtx4090": Device(
        24,
        165.2,
        82.6,
        1008,
        32,
        "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/"
        "nvidia-ada-gpu-architecture.pdf (FP32 accumulation, dense)",
    ),
    "cpu-core": Device(
        None,
        0.93,
        0.149,
        18.4,
        10,
        "one core of an Intel Xeon with AMX, by benchmarks/plan_validation.py",
        utilisation=0.35,
        kind="cpu",
    ),
}
"""By name. PCIe 4.0 x16 links carry 32 GB/s in one direction; NVLink half of what is stated."""


def find_device(name: str) -> Device:
    """A device by its name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in DEVICES:
        hint = did_you_mean(name, DEVICES, otherwise=f"known: {', '.join(DEVICES)}")
        raise InputError(f"--device: expected the name of a device, found {name}; {hint}")
    return DEVICES[name]
