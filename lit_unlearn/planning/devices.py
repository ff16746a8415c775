"""Devices by name with the figures of their data sheets, and the measured rate of this machine."""

from dataclasses import dataclass

from lit_unlearn.errors import InputError, did_you_mean

__all__ = ["DEVICES", "UTILISATION", "Device", "find_device"]

UTILISATION = (0.2, 0.5)
"""Least and largest share of the peak that a training step usually reaches on a GPU; these are
customary values, not measurements."""


@dataclass(frozen=True)
class Device:
    """The figures of a device's data sheet."""

    memory: float
    """Gigabytes of 10^9 bytes."""
    bf16: float
    """TFLOP/s of dense matrix products in bfloat16, accumulated in float32."""
    fp32: float
    """TFLOP/s of matrix products in float32, without TF32, which torch does not use by default."""
    source: str

    def rates(self, element_bytes: int, utilisation: float | None = None) -> tuple[float, float]:
        """Return the least and the largest expected TFLOP/s.

        Args:
            element_bytes: 2 for bfloat16, 4 for float32.
            utilisation: Share of the peak that is reached; None for `UTILISATION`.
        """
        peak = self.bf16 if element_bytes == 2 else self.fp32
        least, most = UTILISATION if utilisation is None else (utilisation, utilisation)
        return least * peak, most * peak


_NVIDIA = "https://www.nvidia.com/en-us"

DEVICES = {
    "h100": Device(80, 989.4, 66.9, f"{_NVIDIA}/data-center/h100/ (SXM; dense)"),
    "h200": Device(141, 989.4, 66.9, f"{_NVIDIA}/data-center/h200/ (SXM; dense)"),
    "a100-80gb": Device(80, 312, 19.5, f"{_NVIDIA}/data-center/a100/ (SXM)"),
    "a100-40gb": Device(40, 312, 19.5, f"{_NVIDIA}/data-center/a100/ (SXM)"),
    "l40s": Device(48, 362.05, 91.6, f"{_NVIDIA}/data-center/l40s/ (dense)"),
    "rtx4090": Device(
        24,
        165.2,
        82.6,
        "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/"
        "nvidia-ada-gpu-architecture.pdf (FP32 accumulation, dense)",
    ),
}


def find_device(name: str) -> Device:
    """Return a device by its name.

    Raises:
        InputError: The name is unknown.
    """
    if name not in DEVICES:
        hint = did_you_mean(name, DEVICES, otherwise=f"known: {', '.join(DEVICES)}")
        raise InputError(f"--device: expected the name of a device, found {name}; {hint}")
    return DEVICES[name]
