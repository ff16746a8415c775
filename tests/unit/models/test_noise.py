"""Noise on the start weights (UNDO): its size, its seed, and who gets it."""

from __future__ import annotations

import pytest
import torch

from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import (
    LoRA,
    ModelSource,
    load_base,
    load_student,
)
from lit_unlearn.models.noise import Noise, add_noise
from lit_unlearn.models.tiny import TINY_NAME


def source(**options: float) -> ModelSource:
    return ModelSource(TINY_NAME, noise=Noise(**options))  # type: ignore[arg-type]


def test_worked_value() -> None:
    """(1 - 0.25) theta + 0.25 * 2 N: N is what is left, within sqrt(6 / (fan in + fan out))."""
    before = dict(load_base(ModelSource(TINY_NAME)).named_parameters())
    after = dict(load_student(source(mix=0.25, scale=2.0)).named_parameters())
    assert before.keys() == after.keys()
    for name, parameter in after.items():
        noise = (parameter - 0.75 * before[name]) / 0.5
        if parameter.dim() == 1:  # norms shrink, and get no noise
            torch.testing.assert_close(parameter, 0.75 * before[name])
            continue
        bound = (6 / sum(parameter.shape)) ** 0.5
        assert noise.abs().max() <= bound + 1e-5
        assert noise.abs().max() > 0.95 * bound
        assert float(noise.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_shrinks_alone_at_scale_0_and_replaces_all_at_mix_1() -> None:
    start = [p.detach() for p in load_base(ModelSource(TINY_NAME)).parameters()]
    shrunk = load_student(source(mix=0.5, scale=0.0)).parameters()
    for parameter, before in zip(shrunk, start, strict=True):
        torch.testing.assert_close(parameter.detach(), 0.5 * before)
    one, other = load_base(ModelSource(TINY_NAME)), load_base(ModelSource(TINY_NAME, seed=1))
    for model in (one, other):
        add_noise(model, Noise(mix=1.0, scale=1.0))
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)


def test_seed_decides_alone() -> None:
    torch.manual_seed(1)
    first = load_student(source(seed=5)).state_dict()
    state = torch.get_rng_state()
    second, third = load_student(source(seed=5)).state_dict(), load_student(source(seed=6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    moved = [not torch.equal(first[n], p) for n, p in third.named_parameters() if p.dim() > 1]
    assert all(moved)


def test_tied_weights_stay_tied_and_teachers_get_none() -> None:
    student = load_student(source())
    assert student.lm_head.weight is student.model.embed_tokens.weight  # type: ignore[union-attr]
    clean = load_base(source())
    for found, plain in zip(
        clean.parameters(), load_base(ModelSource(TINY_NAME)).parameters(), strict=True
    ):
        assert torch.equal(found, plain)


def test_bad_input() -> None:
    for mix, scale in ((0.0, 0.1), (1.5, 0.1), (0.5, -1.0)):
        with pytest.raises(InputError, match=r"`model.student.noise`: `mix` should lie above 0"):
            Noise(mix, scale)
    with pytest.raises(InputError, match=r"Found `model.student.lora` set as well"):
        ModelSource(TINY_NAME, lora=LoRA(), noise=Noise())
    with pytest.raises(InputError, match=r"Found `model.student.trainable` set as well"):
        ModelSource(TINY_NAME, trainable=["mlp"], noise=Noise())
