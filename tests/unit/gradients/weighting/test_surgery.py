from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import GradVac, PCGrad
from lit_unlearn.gradients.weighting.surgery import (
    ALL_ORDERS_UP_TO,
    LARGEST_TARGET,
    vaccine_weights,
)
from tests.inputs import GRAMIANS, JACOBIANS, jacobian

# ----------------------------------------------------------------------------------------- PCGrad


def test_pcgrad_two_objectives_in_conflict() -> None:
    """g1 = (1, 0), g2 = (-1, 1): <g1, g2> = -1, |g1|^2 = 1, |g2|^2 = 2.

    g1' = g1 + 1/2 g2 = (1/2, 1/2), which is orthogonal to g2; g2' = g2 + 1/1 g1 = (0, 1),
    orthogonal to g1. The sum is (1 + 1) g1 + (1 + 1/2) g2 = (1/2, 3/2).
    """
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    weights = PCGrad()(rows @ rows.T)
    assert_close(weights, torch.tensor([2.0, 1.5], dtype=torch.float64))
    assert_close(weights @ rows, torch.tensor([0.5, 1.5], dtype=torch.float64))


def test_pcgrad_opposite_gradients_cancel() -> None:
    """g2 = -3 g1: g1' = g1 - g1 = 0 and g2' = 0, whatever the norms."""
    rows = JACOBIANS["opposite_unequal"]
    assert_close(PCGrad()(rows @ rows.T) @ rows, torch.zeros(20, dtype=torch.float64))


def test_pcgrad_three_objectives_by_both_orders() -> None:
    """Unit vectors at 0, 120 and 240 degrees: all inner products are -1/2.

    From g1 with order (2, 3): g1' = g1 + 1/2 g2; <g1', g3> = -1/2 - 1/4 = -3/4, so
    g1'' = g1 + 1/2 g2 + 3/4 g3. The other order swaps 1/2 and 3/4; the mean of both is
    g1 + 5/8 (g2 + g3). By symmetry each objective ends with 1 + 5/8 + 5/8 = 9/4.
    """
    cosine = torch.full((3, 3), -0.5, dtype=torch.float64).fill_diagonal_(1.0)
    assert_close(PCGrad()(cosine), torch.full((3,), 2.25, dtype=torch.float64))


def test_pcgrad_equals_the_mean_of_the_papers_random_orders() -> None:
    """Algorithm 1 on the gradients themselves, with 2000 draws from a fixed seed."""
    rows = JACOBIANS["conflicting"][:, :6]
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(6, dtype=torch.float64)
    draws = 2000
    for _ in range(draws):
        for i in range(len(rows)):
            projected = rows[i].clone()
            for j in torch.randperm(len(rows), generator=generator).tolist():
                inner = projected @ rows[j]
                if j != i and inner < 0:
                    projected -= inner / (rows[j] @ rows[j]) * rows[j]
            total += projected / draws
    exact = PCGrad()(rows @ rows.T) @ rows
    assert (total - exact).norm() < 0.02 * exact.norm()


def test_pcgrad_with_many_objectives_takes_rotations() -> None:
    """Two objectives in conflict, the others orthogonal to all: any order gives the same."""
    count = ALL_ORDERS_UP_TO + 3
    cosine = torch.eye(count, dtype=torch.float64)
    cosine[0, 1] = cosine[1, 0] = -0.25
    expected = torch.ones(count, dtype=torch.float64)
    expected[:2] = 1.25
    assert_close(PCGrad()(cosine), expected)


@pytest.mark.parametrize("seed", range(10))
def test_pcgrad_equals_torchjd_for_two(seed: int) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = jacobian(2, 5, seed)
    gramian = rows @ rows.T
    assert_close(PCGrad()(gramian), aggregation.PCGradWeighting()(gramian))
    assert_close(PCGrad()(gramian) @ rows, aggregation.PCGrad()(rows))


# ---------------------------------------------------------------------------------------- GradVac


def _matrix(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_vaccine_reaches_the_target() -> None:
    """Orthogonal g1 = (1, 0), g2 = (0, 2), target 0.6 for g1 with g2, -1 for g2 with g1.

    c = 0: share |g1| 0.6 / (|g2| 0.8) = 3/8, so g1' = g1 + 3/8 g2 = (1, 3/4), whose cosine with g2
    is (3/4) / (5/4) = 0.6. g2 is above its target and stays. Weights 1 and 1 + 3/8.
    """
    targets = _matrix([0.0, 0.6], [-1.0, 0.0])
    weights, seen = vaccine_weights(
        torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 2.0]).double(), targets
    )
    assert_close(weights, torch.tensor([1.0, 1.375], dtype=torch.float64))
    assert_close(seen, torch.zeros(2, 2, dtype=torch.float64))


def test_gradvac_begins_as_pcgrad() -> None:
    for gramian in GRAMIANS.values():
        assert_close(GradVac()(gramian), PCGrad()(gramian), rtol=1e-6, atol=1e-6)


def test_gradvac_targets_follow_what_is_seen() -> None:
    """Cosine 0.6 with beta 1/2 makes the target 0.3; then orthogonal unit gradients are turned.

    Share 0.3 / sqrt(1 - 0.09), in both directions.
    """
    weighting = GradVac(beta=0.5)
    assert weighting(_matrix([1.0, 0.6], [0.6, 1.0])).tolist() == [1, 1]
    share = 0.3 / (1 - 0.09) ** 0.5
    weights = weighting(torch.eye(2, dtype=torch.float64))
    assert_close(weights, torch.full((2,), 1 + share, dtype=torch.float64))


def test_gradvac_without_memory_is_pcgrad() -> None:
    weighting = GradVac(beta=0)
    for _ in range(3):
        assert_close(weighting(GRAMIANS["conflicting"]), PCGrad()(GRAMIANS["conflicting"]))


def test_gradvac_bounds_targets_near_one() -> None:
    """Equal gradients bring the target to 1, which opposite ones could meet with no finite share.

    With the target t = .999 the share is (t sqrt(1 - 1) + sqrt(1 - t^2)) / sqrt(1 - t^2) = 1.
    """
    weighting = GradVac(beta=1)
    weighting(_matrix([1.0, 1.0], [1.0, 1.0]))
    assert weighting.targets is not None
    assert weighting.targets[0, 1] == 1 > LARGEST_TARGET
    weights = weighting(_matrix([1.0, -1.0], [-1.0, 1.0]))
    assert_close(weights, torch.tensor([2.0, 2.0], dtype=torch.float64))


def test_gradvac_keeps_the_target_of_a_dead_objective() -> None:
    weighting = GradVac()
    weighting(_matrix([1.0, 0.6], [0.6, 1.0]))
    weighting(_matrix([1.0, 0.0], [0.0, 0.0]))
    assert weighting.targets is not None
    assert_close(weighting.targets[0, 1].item(), 0.3)


def test_gradvac_state_survives_a_checkpoint() -> None:
    first, second = GradVac(), GradVac()
    second.load_state_dict(first.state_dict())  # also before the first step
    for name in ("conflicting", "random_4"):
        first(GRAMIANS[name])
    second.load_state_dict(first.state_dict())
    expected = first(GRAMIANS["random_4"])
    assert torch.equal(second(GRAMIANS["random_4"]), expected)
    assert not torch.equal(GradVac()(GRAMIANS["random_4"]), expected)
    with pytest.raises(InputError, match=r"get the 4 objectives .* Found 3"):
        second(GRAMIANS["random_3"])


@pytest.mark.parametrize("seed", range(5))
def test_gradvac_equals_torchjd_for_two(seed: int) -> None:
    """Over a run of steps, state included; with two objectives there is one order."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    ours, theirs = GradVac(), aggregation.GradVacWeighting(beta=0.5, eps=0.0)
    for step in range(5):
        rows = jacobian(2, 5, 100 * seed + step)
        assert_close(ours(rows @ rows.T), theirs(rows @ rows.T))


def test_gradvac_beta() -> None:
    with pytest.raises(InputError, match=r"`GradVac.beta` .* Found 2"):
        GradVac(beta=2)
