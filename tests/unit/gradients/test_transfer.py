"""Transfer against a naive computation, the first order against cosines, weights as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.gradients.collect import Gradient, take_gradient
from lit_unlearn.gradients.diagnostics import cosines
from lit_unlearn.gradients.gramian import gramian
from lit_unlearn.gradients.transfer import first_order, shared_gain, transfer_matrix


def problem() -> tuple[list[Tensor], list[Callable[[], Tensor]]]:
    """Two parameters, three losses: two that fight, one that touches the first parameter only."""
    one = torch.tensor([1.0, -2.0], requires_grad=True)
    two = torch.tensor([0.5], requires_grad=True)
    return [one, two], [
        lambda: (one**2).sum() + two.exp().sum(),
        lambda: (one[0] - 3) ** 2 - two.sum(),
        lambda: one[0].sin(),
    ]


def callables(
    parameters: list[Tensor], losses: list[Callable[[], Tensor]]
) -> tuple[list[Callable[[], Gradient]], list[Callable[[], float]]]:
    def gradient_of(loss: Callable[[], Tensor]) -> Callable[[], Gradient]:
        def take() -> Gradient:
            loss().backward()
            return take_gradient(parameters)

        return take

    def value_of(loss: Callable[[], Tensor]) -> Callable[[], float]:
        return lambda: float(loss().detach())

    return [gradient_of(loss) for loss in losses], [value_of(loss) for loss in losses]


def test_equals_the_naive_steps_and_restores_the_weights() -> None:
    parameters, losses = problem()
    before = [p.detach().clone() for p in parameters]
    gradients, values = callables(parameters, losses)
    found = transfer_matrix(parameters, gradients, values, 0.1)
    for p, start in zip(parameters, before, strict=True):
        assert torch.equal(p, start)
        assert p.grad is None
    start_losses = [value() for value in values]
    for i, take in enumerate(gradients):
        flat = torch.cat(
            [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for p, g in zip(parameters, take(), strict=True)
            ]
        )
        step = 0.1 * flat / flat.norm()
        with torch.no_grad():
            parameters[0] -= step[:2]
            parameters[1] -= step[2:]
        changes = [value() - s for value, s in zip(values, start_losses, strict=True)]
        with torch.no_grad():
            parameters[0].copy_(before[0])
            parameters[1].copy_(before[1])
        assert_close(found[i], torch.tensor(changes, dtype=torch.float64), rtol=1e-4, atol=1e-6)


def test_small_steps_show_the_cosines() -> None:
    parameters, losses = problem()
    with torch.no_grad():
        wide = [p.double().requires_grad_() for p in parameters]
    one, two = wide
    losses = [
        lambda: (one**2).sum() + two.exp().sum(),
        lambda: (one[0] - 3) ** 2 - two.sum(),
        lambda: one[0].sin(),
    ]
    gradients, values = callables(wide, losses)
    grams = gramian([take() for take in gradients]).whole
    found = transfer_matrix(wide, gradients, values, 1e-6)
    assert_close(found, first_order(grams, 1e-6), rtol=1e-4, atol=1e-12)
    assert_close(shared_gain(found), cosines(grams), rtol=1e-4, atol=1e-6)
    assert found[0, 1] > 0 > found[0, 0]


def test_weights_come_back_after_an_error() -> None:
    parameters, losses = problem()
    before = [p.detach().clone() for p in parameters]
    gradients, values = callables(parameters, losses)
    read = 0

    def fails() -> float:
        nonlocal read
        read += 1
        if read > 1:
            raise RuntimeError("no")
        return 0.0

    with pytest.raises(RuntimeError, match="no"):
        transfer_matrix(parameters, gradients, [*values[:2], fails], 1.0)
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_zero_gradients_and_rising_losses() -> None:
    parameters, _ = problem()
    still: list[Callable[[], Gradient]] = [lambda: [None, None]]
    assert transfer_matrix(parameters, still, [lambda: 1.0], 1.0).tolist() == [[0.0]]
    gain = shared_gain(torch.tensor([[-2.0, 0.5], [1.0, 0.25]]))
    assert gain[0].tolist()[0] == 1.0
    assert gain[1, 0] == -0.5
    assert gain[:, 1].isnan().all()


@pytest.mark.parametrize("radius", [0.0, -1.0])
def test_bad_arguments(radius: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        transfer_matrix([], [], [], radius)
    with pytest.raises(ValueError, match=r"Found 1\.0, 1 and 0"):
        transfer_matrix([], [], [lambda: 0.0], 1.0)
