"""Attention along a prefix tree: equal to full attention under the tree's own mask."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from lit_unlearn.models.prefix_tree import PrefixTree, prefix_tree, separate
from lit_unlearn.models.tree_attention import LAYOUT, attention, layout_of

SYSTEM = list(range(20))
QUESTIONS = [[*SYSTEM, *range(30 + q, 34 + 2 * q)] for q in range(5)]
ROWS = [[*q, *range(90, 90 + o), 7] for q in QUESTIONS for o in range(6)] + [[3], [4, 5]]


class Block(nn.Module):
    """What transformers' attention asks of a layer."""

    num_key_value_groups = 2
    is_causal = True
    layer_idx = 0


def reference(tree: PrefixTree, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """All tokens in one call, each behind those of its own chain."""
    seen = torch.zeros(tree.tokens, tree.tokens, dtype=torch.bool)
    for segment, (start, end) in zip(tree.segments, pairwise(tree.starts), strict=True):
        for ancestor in segment.ancestors:
            seen[start:end, tree.starts[ancestor] : tree.starts[ancestor + 1]] = True
        seen[start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
    key, value = (states.repeat_interleave(2, dim=1) for states in (key, value))
    return scaled_dot_product_attention(query, key, value, seen).transpose(1, 2)


@pytest.mark.parametrize("tree", [prefix_tree(ROWS), prefix_tree(ROWS, 1), separate(ROWS)])
def test_outputs_and_gradients_are_those_of_one_masked_call(tree: PrefixTree) -> None:
    torch.manual_seed(0)
    states = [torch.randn(1, heads, tree.tokens, 8, requires_grad=True) for heads in (4, 2, 2)]
    layout = layout_of(tree, torch.device("cpu"))
    found, _ = attention(Block(), *states, None, **{LAYOUT: layout})
    right = reference(tree, *states)
    assert_close(found, right, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(right)
    gradients = [torch.autograd.grad((out * weights).sum(), states) for out in (found, right)]
    assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_few_calls_and_no_token_in_two() -> None:
    tree = prefix_tree(ROWS, 1)
    layout = layout_of(tree, torch.device("cpu"))
    assert len(layout.groups) < len(tree.segments) / 4
    queries = torch.cat([group.queries.flatten() for group in layout.groups])
    assert queries[layout.places].tolist() == list(range(tree.tokens))


def test_a_long_segment_is_not_padded_onto_short_ones() -> None:
    rows = [[*SYSTEM, 50], [*SYSTEM, 51, 52], [*SYSTEM, *range(100, 700)]]
    groups = layout_of(prefix_tree(rows), torch.device("cpu")).groups
    assert sorted(tuple(group.queries.shape) for group in groups) == [(1, 20), (1, 600), (2, 2)]
