"""Ascent: worked values, an independent computation, and how the variants meet at their limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_unlearn.objectives import likelihood, losses
from lit_unlearn.objectives.losses import log_likelihood
from lit_unlearn.objectives.preference import npo
from tests.unit.objectives.given import log_softmax64

LOGITS = torch.randn(6, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 2
REFERENCE = torch.randn(6, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
TARGETS = torch.tensor([0, 3, 8, 8, 2, 5])


def test_limit_worked_values() -> None:
    """NLL 1 and 5 under a limit of 3: -1 with gradient -1, and -3 with gradient 0."""
    nll = torch.tensor([1.0, 5.0], requires_grad=True)
    values = likelihood.gradient_ascent(nll, 3.0)
    (gradient,) = torch.autograd.grad(values.sum(), nll)
    assert values.tolist() == [-1, -3]
    assert gradient.tolist() == [-1, 0]
    assert likelihood.gradient_ascent(nll).tolist() == [-1, -5]


def test_weights_worked_values() -> None:
    """p = 1/2: WGA with beta 2 has 1/4; SatImp with (3, 1) has 1/8 * 1/2; p = 1 has 0.

    TNPO with beta 1, p = 1/2, p_ref = 1/4: 2 (1/2) / (3/4) = 4/3.
    """
    log_p = torch.tensor([0.5, 1.0]).log()
    assert likelihood.confidence_weights(log_p, 2.0).tolist() == pytest.approx([0.25, 1.0])
    assert likelihood.saturation_weights(log_p, 3.0, 1.0).tolist() == pytest.approx([1 / 16, 0.0])
    reference = torch.tensor([0.25, 1.0]).log()
    weights = likelihood.preference_weights(log_p, reference, 1.0)
    assert weights.tolist() == pytest.approx([4 / 3, 1.0])


def test_against_loops() -> None:
    """Each weighted loss, token by token, from the definition in float64."""
    log_p = log_likelihood(LOGITS, TARGETS)
    reference = log_likelihood(REFERENCE, TARGETS)
    for i, target in enumerate(TARGETS.tolist()):
        lp, lr = log_softmax64(LOGITS[i].tolist()), log_softmax64(REFERENCE[i].tolist())
        p, p_ref = math.exp(lp[target]), math.exp(lr[target])
        assert float(log_p[i]) == pytest.approx(lp[target])
        assert float(likelihood.confidence_weights(log_p, 1.5)[i]) == pytest.approx(p**1.5)
        saturation = float(likelihood.saturation_weights(log_p, 5.0, 2.0)[i])
        assert saturation == pytest.approx(p**5 * (1 - p) ** 2)
        preferred = float(likelihood.preference_weights(log_p, reference, 4.0)[i])
        assert preferred == pytest.approx(2 * p**4 / (p**4 + p_ref**4))
        top = sorted(range(9), key=lambda v: -lp[v])[:3]
        mass = sum(math.exp(lp[v]) for v in top)
        value = sum(0.3 * math.exp(lp[v]) / mass * lp[v] for v in top) + 0.7 * lp[target]
        soft = likelihood.soft_belief(LOGITS, TARGETS, 3, 0.3)
        assert float((soft * LOGITS.log_softmax(-1)).sum(-1)[i]) == pytest.approx(value)


def gradient(values: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(values.sum(), logits, retain_graph=True)
    return found


def test_tnpo_has_the_gradient_of_npo_on_one_token() -> None:
    """The weighted likelihood and -(2/beta) log sigmoid(...) differ in value, not in gradient."""
    logits = LOGITS.clone().requires_grad_()
    log_p, reference = log_likelihood(logits, TARGETS), log_likelihood(REFERENCE, TARGETS)
    weighted = likelihood.preference_weights(log_p, reference, 4.0) * log_p
    torch.testing.assert_close(
        gradient(weighted, logits), gradient(npo(log_p, reference, 4.0), logits)
    )


def test_limits_are_plain_ascent() -> None:
    """WGA with beta 0, SatImp with (0, 0), BS-T with mix 0, and TNPO as beta -> 0."""
    logits = LOGITS.clone().requires_grad_()
    log_p, reference = log_likelihood(logits, TARGETS), log_likelihood(REFERENCE, TARGETS)
    plain = gradient(likelihood.gradient_ascent(losses.cross_entropy(logits, TARGETS)), logits)
    variants = [
        likelihood.confidence_weights(log_p, 0.0) * log_p,
        likelihood.saturation_weights(log_p, 0.0, 0.0) * log_p,
        (likelihood.soft_belief(logits, TARGETS, 5, 0.0) * logits.log_softmax(-1)).sum(-1),
        likelihood.preference_weights(log_p, reference, 1e-9) * log_p,
    ]
    for values in variants:
        torch.testing.assert_close(gradient(values, logits), plain)


def test_weights_carry_no_gradient() -> None:
    log_p = torch.tensor([-1.0, -2.0], requires_grad=True)
    for weights in (
        likelihood.confidence_weights(log_p, 1.0),
        likelihood.saturation_weights(log_p, 1.0, 1.0),
        likelihood.preference_weights(log_p, log_p, 1.0),
    ):
        assert not weights.requires_grad
