"""DualOptim+: the published steps one by one, and what holds for any number of objectives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.combination import DualOptimPlus, check_alone
from lit_unlearn.gradients.weighting import Fixed


def bound(*names: str) -> DualOptimPlus:
    rule = DualOptimPlus(beta1=0.8, beta2=0.9, base_beta1=0.7, base_beta2=0.6)
    rule.bind(names)
    return rule


def ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.float64)


def published(steps: list[tuple[str, float]]) -> list[float]:
    """The directions of one weight, as the authors' steps make them: one objective at a time."""
    base, base_square, taken, found = 0.0, 0.0, 0, []
    own: dict[str, list[float]] = {}
    for name, g in steps:
        mean = base / (1 - 0.7**taken) if taken else 0.0
        square = base_square / (1 - 0.6**taken) if taken else 0.0
        delta, delta_square, count = own.get(name, [0.0, 0.0, 0])
        delta = 0.8 * delta + 0.2 * (g - mean)
        delta_square = 0.9 * delta_square + 0.1 * (g * g - square)
        count += 1
        own[name] = [delta, delta_square, count]
        size = math.sqrt(abs(square + delta_square / (1 - 0.9**count))) + 1e-8
        found.append((mean + delta / (1 - 0.8**count)) / size)
        base, base_square, taken = 0.7 * base + 0.3 * g, 0.6 * base_square + 0.4 * g * g, taken + 1
    return found


def test_worked_values() -> None:
    """First step: all is the correction, g / |g|. The second objective, g = -1 after g = 2:

    B = 2, B' = 4; D = -1 - 2 = -3 and D' = 1 - 4 = -3, so (2 - 3) / sqrt|4 - 3| = -1.
    """
    rule = bound("forget", "retain")
    (first,) = rule([[torch.tensor([2.0])], [None]], ones(2))
    (second,) = rule([[None], [torch.tensor([-1.0])]], ones(2))
    assert [first.item(), second.item()] == pytest.approx([1, -1])


def test_objectives_in_turn_are_the_published_rule() -> None:
    steps = [("f", 2.0), ("r", -1.0), ("f", 1.5), ("f", 0.3), ("r", 0.2), ("r", -2.0), ("f", 1.0)]
    rule, found = bound("f", "r"), []
    for name, g in steps:
        rows = [[torch.tensor([g]) if name == own else None] for own in ("f", "r")]
        (direction,) = rule(rows, ones(2))
        found.append(direction.item())
    assert found == pytest.approx(published(steps), rel=1e-5)


def gradients(count: int, step: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return [[torch.randn(4, generator=generator)] for _ in range(count)]


def test_order_and_weights_of_three_objectives() -> None:
    """The order changes nothing; a weight is a factor of the objective's direction alone."""
    one, other = bound("a", "b", "c"), bound("c", "a", "b")
    weights = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    alone = [bound("a", "b", "c") for _ in weights]
    for step in range(3):
        rows = gradients(3, step)
        (update,) = one(rows, weights)
        (same,) = other([rows[2], rows[0], rows[1]], weights[[2, 0, 1]])
        torch.testing.assert_close(update, same)
        parts = [rule(rows, torch.eye(3).double()[i])[0] for i, rule in enumerate(alone)]
        torch.testing.assert_close(update, parts[0] + 3 * parts[2])
    assert all(
        torch.equal(row[0], again[0]) for row, again in zip(rows, gradients(3, 2), strict=True)
    )


def test_equal_gradients_share_the_state() -> None:
    """The corrections of equal, constant gradients vanish, and every direction is a sign."""
    rule, row = bound("a", "b"), torch.tensor([1e-10, -3.0, 1e10])
    for _ in range(60):
        (update,) = rule([[row], [row.clone()]], ones(2))
    assert update[1:].tolist() == pytest.approx([-2, 2], rel=1e-3)
    own, _ = rule.moments[0][0] or (row, row)
    assert float((own / row).abs().max()) < 1e-3


def test_resumes_and_refuses_clipping() -> None:
    one, other = bound("a", "b"), bound("a", "b")
    one(gradients(2, 0), ones(2))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(gradients(2, 1), ones(2))[0], other(gradients(2, 1), ones(2))[0])
    assert one([[None], [None]], ones(2)) == [None]
    check_alone(one, Fixed(), None)
    with pytest.raises(InputError, match=r"`model.clip_norm` should be null beside DualOptimPlus"):
        check_alone(one, None, 1.0)
