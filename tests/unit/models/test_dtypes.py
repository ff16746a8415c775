"""Tests of dtypes chosen by the device, on devices that only claim to exist."""

from __future__ import annotations

import platform

import pytest
import torch

from lit_unlearn.models import dtypes

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


def processor(
    monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, *, bf16: bool, amx: bool = False
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: capability != "AVX2")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


@pytest.mark.parametrize(
    ("machine", "capability", "bf16", "amx", "native"),
    [
        ("x86_64", "AVX2", False, False, False),
        ("x86_64", "AVX512", False, False, False),  # Skylake: torch's own check says yes
        ("x86_64", "AVX512", True, False, True),
        ("x86_64", "AVX512", False, True, True),
        ("x86_64", "AVX2", True, True, False),  # ATEN_CPU_CAPABILITY=avx2 on a newer processor
        ("aarch64", "SVE256", False, False, True),
    ],
)
def test_processors(
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    capability: str,
    bf16: bool,
    amx: bool,
    native: bool,
) -> None:
    processor(monkeypatch, machine, capability, bf16=bf16, amx=amx)
    assert dtypes.multiplies_bfloat16(CPU) == native
    assert dtypes.precision_for(CPU) == ("bf16-mixed" if native else "32-true")
    expected = torch.bfloat16 if native else torch.float32
    assert dtypes.resolve_dtype("auto", CPU) == expected
    assert dtypes.resolve_dtype("auto") == expected
    assert dtypes.resolve_dtype("bfloat16", CPU) == torch.bfloat16
    assert dtypes.resolve_dtype("float16", CPU) == torch.float16


@pytest.mark.parametrize(
    ("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_cuda_devices(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert dtypes.multiplies_bfloat16(CUDA) == native


def test_other_devices_get_float32() -> None:
    assert not dtypes.multiplies_bfloat16(MPS)
    assert dtypes.resolve_dtype("auto", MPS) == torch.float32


def test_the_ratio_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e-4 < dtypes.measured_rate(torch.float32, "cpu") < 1e3
    rates = {torch.bfloat16: 0.1, torch.float32: 3.0}
    monkeypatch.setattr(dtypes, "measured_rate", lambda dtype, _: rates[dtype])
    assert dtypes.times_slower_in_bfloat16(CPU) == pytest.approx(30)
