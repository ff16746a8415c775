"""benchmarks/layer_probe.py: the area of held-out scores on classes with a known gap."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def test_held_out_area(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart by ten deviations along one axis: 1; twice the same distribution: about 0.5."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from layer_probe import held_out_area  # type: ignore[import-not-found]

    first, second = torch.randn(40, 4), torch.randn(120, 4)
    assert 0.3 < held_out_area(first, second) < 0.7
    assert held_out_area(first + torch.tensor([10.0, 0, 0, 0]), second) == 1
