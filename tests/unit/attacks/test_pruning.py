"""Tests of `lit_unlearn.attacks.pruning`."""

from __future__ import annotations

import pytest
import torch
from torch import tensor
from transformers import PreTrainedModel

from lit_unlearn.attacks.pruning import pruned_copy, smallest_to_zero
from lit_unlearn.errors import InputError


def test_a_worked_matrix() -> None:
    """Of four weights the two of least magnitude, 1 and -.5, become 0; of a third of them one."""
    weight = tensor([[1.0, -2.0], [3.0, -0.5]])
    assert smallest_to_zero(weight, 0.5).tolist() == [[0.0, -2.0], [3.0, 0.0]]
    assert smallest_to_zero(weight, 0.3).tolist() == [[1.0, -2.0], [3.0, 0.0]]
    assert smallest_to_zero(weight, 1.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert torch.equal(smallest_to_zero(weight, 0.0), weight)
    assert smallest_to_zero(torch.ones(3, 4), 0.5).count_nonzero() == 6


def test_only_linear_layers_are_pruned_each_by_its_share(tiny_model: PreTrainedModel) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    changed = pruned_copy(tiny_model, 0.25).state_dict()
    for name, old in before.items():
        if "proj" in name:
            assert int((changed[name] == 0).sum()) == old.numel() // 4
            assert torch.equal(changed[name][changed[name] != 0], old[changed[name] != 0])
        else:
            assert torch.equal(changed[name], old)
    assert all(torch.equal(value, before[n]) for n, value in tiny_model.state_dict().items())
    unchanged = pruned_copy(tiny_model, 0.0).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in unchanged.items())


def test_shares_that_make_no_sense() -> None:
    with pytest.raises(InputError, match=r"`share` should be at least 0 and at most 1. Found 2"):
        smallest_to_zero(torch.ones(1, 1), 2)
