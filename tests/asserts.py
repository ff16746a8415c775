"""Properties, stated once: each takes the thing under test and an input, and asserts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.gradients.diagnostics import is_zero, norms
from lit_unlearn.gradients.weighting import Weighting

# ------------------------------------------------------------------------------------- weightings
# Weights of gradients with very different norms are compared by what they do: w_i |g_i|, in units
# of the largest. Where gradients depend on each other, different weights may give the same update.


def _effects(gramian: Tensor, weights: Tensor) -> Tensor:
    """``[M]`` norms of the parts ``w_i g_i``, with sign, relative to the largest gradient."""
    lengths = norms(gramian)
    return weights * lengths / lengths.max().clamp(min=torch.finfo(torch.float64).tiny)


def assert_well_formed(weighting: Weighting, gramian: Tensor) -> None:
    """One finite float64 weight per objective, never negative, and the input left as it was."""
    before = gramian.clone()
    weights = weighting(gramian)
    assert weights.shape == (len(gramian),)
    assert weights.dtype == torch.float64
    assert weights.isfinite().all(), weights
    assert (weights >= 0).all(), weights
    assert torch.equal(gramian, before)


def assert_finite_for_zero_gradients(weighting: Weighting, gramian: Tensor) -> None:
    """Finite weights after any one gradient is set to zero; the others' as without it."""
    for dead in range(len(gramian)):
        others = [i for i in range(len(gramian)) if i != dead]
        with_zero = gramian.clone()
        with_zero[dead] = with_zero[:, dead] = 0
        weights = weighting(with_zero)
        assert weights.isfinite().all(), weights
        if others:
            without = gramian[others][:, others]
            assert_close(
                _effects(without, weights[others]),
                _effects(without, weighting(without)),
                rtol=1e-7,
                atol=1e-9,
            )


def assert_permutation_equivariant(weighting: Weighting, gramian: Tensor) -> None:
    """Objectives in another order get the same weights in that order."""
    weights = weighting(gramian)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(gramian), generator=generator)
        permuted = weighting(gramian[order][:, order])
        assert_close(permuted, weights[order], rtol=1e-7, atol=1e-9)


def assert_scale_invariant(weighting: Weighting, gramian: Tensor) -> None:
    """All gradients scaled alike: the same weights, so that the update scales as they do."""
    weights = weighting(gramian)
    for scale in (1e-10, 0.3, 1e10):
        assert_close(weighting(scale**2 * gramian), weights, rtol=1e-7, atol=1e-9)


def assert_non_conflicting(weighting: Weighting, gramian: Tensor) -> None:
    """The update has no negative inner product with any gradient: ``(G w)_i >= 0``.

    The tolerance is rounding: 1e-9 of the inner product of g_i with the update's parts laid end to
    end.
    """
    weights = weighting(gramian)
    inner = gramian @ weights
    most = norms(gramian) * (weights.abs() * norms(gramian)).sum()
    assert (inner >= -1e-9 * most).all(), inner / most


def assert_leaves_harmony_alone(weighting: Weighting, gramian: Tensor) -> None:
    """Without a conflict every weight is 1 (`Fixed` and `PCGrad`, not `MGDA`)."""
    assert (gramian >= 0).all(), "a Gramian without a conflict is needed"
    assert_close(weighting(gramian), torch.ones(len(gramian), dtype=torch.float64))


def assert_nothing_for_the_dead(weighting: Weighting, gramian: Tensor) -> None:
    """A zero gradient has weight 0 (`MGDA`)."""
    assert (weighting(gramian)[is_zero(gramian)] == 0).all()
