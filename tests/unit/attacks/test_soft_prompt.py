"""Tests of `lit_unlearn.attacks.soft_prompt` on the tiny model."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_unlearn.attacks.inputs import AttackRow, embedding_table, target_nll, virtual_tokens
from lit_unlearn.attacks.soft_prompt import Descent, optimise, project, virtual_ids
from lit_unlearn.errors import InputError

ROWS = [
    AttackRow((1, 7), (9,), (4, 5)),
    AttackRow((8,), (9, 3, 2), (6,)),
    AttackRow((1, 1, 8), (2,), (40, 41, 42)),
]
DESCENT = Descent(length=2, steps=12, step_size=0.1)


def test_projection_worked() -> None:
    """From (1, 1): (4, 5) is 5 away, a radius of 2.5 halves the shift (3, 4); (1, 2) may stay."""
    centre = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    found = project(torch.tensor([[4.0, 5.0], [1.0, 2.0]]), centre, 2.5)
    assert_close(found, torch.tensor([[2.5, 3.0], [1.0, 2.0]]))
    assert_close(project(centre + 9, centre, None), centre + 9)
    assert_close(project(centre, centre, 2.5), centre)


def test_virtual_ids_worked() -> None:
    """Two prompts of three vectors behind a vocabulary of ten."""
    assert virtual_ids(10, 2, 3) == [[10, 11, 12], [13, 14, 15]]


@pytest.mark.parametrize("shared", [True, False])
def test_makes_the_targets_likely(tiny_model: PreTrainedModel, shared: bool) -> None:
    """The loss falls in most steps, and the vectors returned have the lowest loss seen."""
    found = optimise(tiny_model, ROWS, DESCENT, shared=shared)
    falls = [b < a for a, b in zip(found.losses, found.losses[1:], strict=False)]
    assert len(found.losses) == DESCENT.steps + 1
    assert sum(falls) >= 9
    assert min(found.losses) < found.losses[0] - 0.5
    assert found.vectors.shape == (1 if shared else 3, 2, 32)
    ids = virtual_ids(len(embedding_table(tiny_model)), len(found.vectors), 2)
    with virtual_tokens(tiny_model, found.vectors.view(-1, 32)), torch.no_grad():
        again = target_nll(tiny_model, ROWS, ids * 3 if shared else ids)
    assert float(again.mean()) <= min(found.losses) + 1e-5


def test_the_first_step_by_hand(tiny_model: PreTrainedModel) -> None:
    """One vector, one row, one step: start minus step size times root mean square entry times the
    sign of a gradient that is found by central differences.
    """
    descent = Descent(length=1, steps=1, step_size=0.05)
    table = embedding_table(tiny_model)
    start = optimise(tiny_model, ROWS[:1], Descent(length=1, steps=0)).vectors[0]
    signs = torch.zeros_like(start)
    for entry in range(start.shape[1]):
        values = []
        for shift in (1e-2, -1e-2):
            moved = start.clone()
            moved[0, entry] += shift
            with virtual_tokens(tiny_model, moved), torch.no_grad():
                values.append(float(target_nll(tiny_model, ROWS[:1], [[len(table)]])))
        signs[0, entry] = 1.0 if values[0] > values[1] else -1.0
    found = optimise(tiny_model, ROWS[:1], descent)
    assert found.losses[1] < found.losses[0]
    assert_close(found.vectors[0], start - 0.05 * float(table.square().mean().sqrt()) * signs)


@pytest.mark.parametrize("radius", [0.05, 0.3])
def test_stays_in_its_bound(tiny_model: PreTrainedModel, radius: float) -> None:
    descent = Descent(length=2, steps=10, step_size=0.5, radius=radius)
    table = embedding_table(tiny_model)
    start = optimise(tiny_model, ROWS, Descent(length=2, steps=0)).vectors
    far = (optimise(tiny_model, ROWS, descent).vectors - start).norm(dim=-1)
    bound = radius * float(table.square().sum(-1).mean().sqrt())
    assert float(far.max()) <= bound * 1.0001
    free = optimise(tiny_model, ROWS, Descent(length=2, steps=10, step_size=0.5)).vectors
    assert float((free - start).norm(dim=-1).max()) > bound


def test_starts_from_embeddings_of_the_seeds_tokens(tiny_model: PreTrainedModel) -> None:
    table = embedding_table(tiny_model)
    first, second = (
        optimise(tiny_model, ROWS, Descent(length=2, steps=0, seed=seed)).vectors for seed in (0, 1)
    )
    for vector in first[0]:
        assert (table == vector).all(dim=-1).any()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shared", [True, False])
def test_batch_size_changes_nothing(tiny_model: PreTrainedModel, shared: bool) -> None:
    """The sign of an entry near zero may differ; the losses may not."""
    one, all_ = (
        optimise(tiny_model, ROWS, Descent(length=2, steps=3), shared=shared, batch_size=size)
        for size in (1, 8)
    )
    assert one.losses == pytest.approx(all_.losses, abs=1e-3)


def test_separate_prompts_do_not_meet(tiny_model: PreTrainedModel) -> None:
    """A row's own prompt does not depend on which other rows are attacked."""
    together = optimise(tiny_model, ROWS, Descent(length=2, steps=3), shared=False)
    alone = optimise(tiny_model, ROWS[1:2], Descent(length=2, steps=3), shared=False)
    assert_close(together.vectors[1], alone.vectors[0], atol=1e-4, rtol=1e-4)


def test_the_model_is_left_as_it_was(tiny_model: PreTrainedModel) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    tiny_model.train()
    optimise(tiny_model, ROWS, Descent(length=1, steps=2))
    assert tiny_model.training
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    assert all(torch.equal(v, before[n]) for n, v in tiny_model.state_dict().items())


def test_bad_input(tiny_model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="at least one row"):
        optimise(tiny_model, [], DESCENT)
    with pytest.raises(InputError, match=r"`length`.*at least 1.*Found 0"):
        Descent(length=0, steps=1)
    with pytest.raises(InputError, match=r"`radius`.*above 0"):
        Descent(radius=0.0)
