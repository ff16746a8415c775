"""FLAT: worked values, the variational form it comes from, and directions."""

from __future__ import annotations

import math

import pytest
import torch

from lit_unlearn import objectives as o
from lit_unlearn.objectives.flat import LOSSES, Divergence
from tests.unit.objectives.given import PAIRS, batch_of, given, log_softmax64

VARIATIONAL = {
    "total_variation": (lambda v: math.tanh(v) / 2, lambda u: u),
    "kl": (lambda v: v, lambda u: math.exp(u - 1)),
    "pearson": (lambda v: v, lambda u: u * u / 4 + u),
    "jensen_shannon": (
        lambda v: math.log(2 / (1 + math.exp(-v))),
        lambda u: -math.log(2 - math.exp(u)),
    ),
}
"""g* and f* of each divergence (Table 2 of the paper)."""

WORKED = {
    "total_variation": (math.tanh(0.25) - math.tanh(0.5)) / 2,
    "kl": math.exp(-0.75) - 0.5,
    "pearson": 1 / 64 + 0.25 - 0.5,
    "jensen_shannon": math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(0.25)) - math.log(4),
}


@pytest.mark.parametrize("name", LOSSES)
def test_worked_values(name: Divergence) -> None:
    """P_e = 1/2, P_f = 1/4; pearson: -1/2 + 1/64 + 1/4 = -0.234375."""
    value = LOSSES[name](torch.tensor([0.5]), torch.tensor([0.25]))
    assert value.item() == pytest.approx(WORKED[name], abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_is_the_variational_form(name: Divergence) -> None:
    """Every loss is -g*(P_e) + f*(g*(P_f))."""
    activation, conjugate = VARIATIONAL[name]
    for template, forget in ((0.0, 0.0), (0.9, 0.1), (0.2, 1.0)):
        found = LOSSES[name](
            torch.tensor([template], dtype=torch.float64),
            torch.tensor([forget], dtype=torch.float64),
        )
        assert found.item() == pytest.approx(
            -activation(template) + conjugate(activation(forget)), abs=1e-12
        )


@pytest.mark.parametrize("name", LOSSES)
def test_raises_the_template_and_lowers_the_answer(name: Divergence) -> None:
    template, forget = (torch.tensor([p], requires_grad=True) for p in (0.3, 0.6))
    gradients = torch.autograd.grad(LOSSES[name](template, forget), (template, forget))
    assert gradients[0] < 0
    assert gradients[1] > 0


@pytest.mark.parametrize("name", LOSSES)
def test_objective_against_loops(name: Divergence) -> None:
    """Mean token probability of each answer, over its own tokens alone, then the loss."""
    batch = batch_of(PAIRS)
    student = given(batch)
    activation, conjugate = VARIATIONAL[name]
    assert batch.target_ids is not None
    p: list[list[float]] = [[] for _ in range(len(batch))]
    places = zip(
        batch.student.rows.tolist(),
        batch.student.columns.tolist(),
        batch.target_ids.tolist(),
        strict=True,
    )
    for row, column, target in places:
        p[row].append(math.exp(log_softmax64(student.all_logits[row, column].tolist())[target]))
    means = [sum(values) / len(values) for values in p]
    expected = [-activation(means[i]) + conjugate(activation(means[i + 1])) for i in (0, 2)]
    terms = o.FLAT(divergence=name)(batch, student, None)
    assert terms.values.tolist() == pytest.approx(expected, abs=1e-6)
    assert terms.statistics["template"].tolist() == pytest.approx([means[0], means[2]], rel=1e-5)
    assert terms.statistics["forgotten"].tolist() == pytest.approx([means[1], means[3]], rel=1e-5)
