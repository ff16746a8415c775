"""benchmarks/layer_probe.py: the area of held-out scores on classes with a known gap."""

from __future__ import annotations

import torch

from tests.benchmark_scripts import benchmark


def test_held_out_area() -> None:
    """Apart by ten deviations along one axis: 1; twice the same distribution: about 0.5."""
    held_out_area = benchmark("layer_probe").held_out_area
    first, second = torch.randn(40, 4), torch.randn(120, 4)
    assert 0.3 < held_out_area(first, second) < 0.7
    assert held_out_area(first + torch.tensor([10.0, 0, 0, 0]), second) == 1
