"""Weights moved along a gradient for a while: how far, and back to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.testing import assert_close

from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.perturbation import perturbed
from tests.processes import FORKED, in_processes


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 5), (13,), (2, 3, 4)]
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def gradients(seed: int = 1, dtype: torch.dtype = torch.float32) -> Gradient:
    return [w.detach() for w in weights(seed, dtype)]


def test_worked_value() -> None:
    """g = (3) and (4) in two parameters: |g| = 5, so radius 10 moves them by 6 and 8."""
    one, two = torch.tensor([1.0]), torch.tensor([1.0])
    gradient: Gradient = [torch.tensor([3.0]), torch.tensor([4.0])]
    with perturbed([one, two], gradient, 10.0):
        assert (one.item(), two.item()) == pytest.approx((7.0, 9.0))
        assert gradient == [None, None]
    assert (one.item(), two.item()) == (1.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_as_far_as_the_radius_and_back_bit_by_bit(dtype: torch.dtype, size: float) -> None:
    """Adding and subtracting the move would leave rounding behind; squares of 1e20 overflow."""
    parameters, before = weights(dtype=dtype), weights(dtype=dtype)
    scaled: Gradient = [g * size for g in gradients(dtype=dtype) if g is not None]
    with perturbed(parameters, scaled, 3.0):
        moved = [p.detach().double() - b.double() for p, b in zip(parameters, before, strict=True)]
        length = torch.cat([m.flatten() for m in moved]).norm().item()
        assert length == pytest.approx(3.0, rel=1e-2 if dtype == torch.bfloat16 else 1e-5)
    for parameter, start in zip(parameters, before, strict=True):
        assert torch.equal(parameter, start)


def test_missing_and_zero_gradients_move_nothing() -> None:
    parameters, before = weights(), weights()
    partly: Gradient = [None, gradients()[1], None]
    with perturbed(parameters, partly, 1.0):
        assert torch.equal(parameters[0], before[0])
        assert not torch.equal(parameters[1], before[1])
    for nothing in ([None] * 3, [torch.zeros_like(p) for p in parameters]):
        with perturbed(parameters, list(nothing), 1.0):
            assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_back_after_an_error_too() -> None:
    parameters, before = weights(), weights()
    with pytest.raises(RuntimeError, match="inside"), perturbed(parameters, gradients(), 1.0):
        raise RuntimeError("inside")
    nan: Gradient = [torch.full_like(p, torch.nan) for p in parameters]
    with perturbed(parameters, nan, 1.0):
        assert not parameters[0].isfinite().any()
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_autograd_works_inside_and_outside() -> None:
    """The loss sum w^2 / 2 has the gradient w: at theta + radius theta / |theta|, longer by it."""
    (parameter,) = weights()[:1]
    with perturbed([parameter], [parameter.detach().clone()], 2.0):
        (0.5 * parameter.square().sum()).backward()
    assert parameter.grad is not None
    expected = float(parameter.detach().norm()) + 2.0
    assert float(parameter.grad.norm()) == pytest.approx(expected, rel=1e-6)


def test_autocast_reads_the_moved_weights() -> None:
    """It keeps casts of weights for as long as it lasts. 1 x 2 before and after, 1 x 3 inside."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    seen = []
    with torch.autocast("cpu", torch.bfloat16):
        seen.append(layer(torch.ones(1, 1)).item())
        with perturbed([layer.weight], [torch.ones(1, 1)], 1.0):
            seen.append(layer(torch.ones(1, 1)).item())
        seen.append(layer(torch.ones(1, 1)).item())
    assert seen == [2.0, 3.0, 2.0]


def test_lengths_differ() -> None:
    message = r"`gradient` should have 3 entries. Found 2"
    with pytest.raises(ValueError, match=message), perturbed(weights(), [None, None], 1.0):
        pass


def sharded_equals_whole() -> None:
    """Sharded as under FSDP2: each process moves its shards by the norm of the whole."""
    mesh = init_device_mesh("cpu", (2,))
    whole, expected = weights(), []
    with perturbed(whole, gradients(), 3.0):
        expected = [p.detach().clone() for p in whole]
    sharded = [distribute_tensor(p.detach(), mesh, (Shard(0),)) for p in weights()]
    local = [shard.to_local().clone() for shard in sharded]
    along: Gradient = [
        None if g is None else distribute_tensor(g, mesh, (Shard(0),)) for g in gradients()
    ]
    with perturbed(sharded, along, 3.0):
        for shard, full in zip(sharded, expected, strict=True):
            assert isinstance(shard, DTensor)
            assert_close(shard.full_tensor(), full)
    for shard, before in zip(sharded, local, strict=True):
        assert torch.equal(shard.to_local(), before)


@FORKED
def test_sharded_equals_whole(tmp_path: Path) -> None:
    in_processes(2, sharded_equals_whole, tmp_path)
