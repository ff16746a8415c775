"""Hidden states read by the logit lens, and put into another model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from lit_unlearn.models import patching
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.hidden import hidden_states, steered_logits
from lit_unlearn.models.patching import (
    block_states,
    lens_log_probs,
    patched_log_probs,
    spread_blocks,
)
from lit_unlearn.models.tiny import tiny_model
from lit_unlearn.types import Tokens
from tests.unit.models.test_packing import BATCH, FAMILIES, made

IDS = [1, 8, 9, 10, 11, 12, 13]
COLUMNS = [2, 3, 5]
"""Positions before the tokens 10, 11 and 13; that before 12 is not exchanged."""
TARGETS = torch.tensor([IDS[column + 1] for column in COLUMNS])


def row() -> Tokens:
    ids = torch.tensor([IDS])
    return Tokens(
        ids, torch.ones_like(ids), torch.zeros(3, dtype=torch.long), torch.tensor(COLUMNS)
    )


def test_blocks_are_spread_up_to_the_last() -> None:
    model = tiny_model(layers=5)
    assert [spread_blocks(model, most) for most in (1, 2, 9)] == [[4], [1, 4], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_behind_the_last_block_is_the_model(family: str) -> None:
    """States are those of `hidden_states`, and of the last block the lens gives the output."""
    model = made(family)
    states, logits = block_states(model, BATCH, [0, 1])
    assert_close(states, hidden_states(model, BATCH), rtol=1e-5, atol=1e-6)
    assert_close(logits, answer_logits(model, BATCH), rtol=1e-5, atol=1e-6)
    targets = torch.arange(len(logits))
    found = lens_log_probs(model, states, targets)
    expected = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert_close(found[1], expected, rtol=1e-5, atol=1e-5)
    assert (found[0] - expected).abs().max() > 1e-3


def test_the_lens_holds_few_logits_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("llama")
    states, _ = block_states(model, BATCH, [0, 1])
    targets = torch.arange(states.shape[1])
    whole = lens_log_probs(model, states, targets)
    monkeypatch.setattr(patching, "_AT_ONCE", 3 * 40)  # three positions
    assert_close(lens_log_probs(model, states, targets), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_patched_pass_is_that_of_a_changed_hidden_state(family: str) -> None:
    """As `steered_logits`, which reads the whole row once for each block; own states do nothing."""
    model = made(family)
    own, logits = block_states(model, row(), [0, 1])
    plain = logits.log_softmax(-1).gather(1, TARGETS[:, None])[:, 0]
    same = patched_log_probs(model, IDS, COLUMNS, own, [0, 1])
    assert_close(same, plain.expand(2, -1), rtol=1e-5, atol=1e-5)
    other = torch.randn_like(own)
    expected = []
    for number, depth in enumerate((0.5, 1.0)):

        def change(states: torch.Tensor, number: int = number) -> torch.Tensor:
            states = states.clone()
            states[0, COLUMNS] = other[number]
            return states

        steered = steered_logits(model, row(), depth, change).detach()
        expected.append(steered.log_softmax(-1).gather(1, TARGETS[:, None])[:, 0])
    found = patched_log_probs(model, IDS, COLUMNS, other, [0, 1])
    assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_neither_packing_nor_parts_nor_a_first_position_change_a_patched_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = made("llama")
    padded = copy.deepcopy(model)
    padded.set_attn_implementation("eager")
    for columns in (COLUMNS, [0, 2]):
        states = torch.randn(2, len(columns), 16)
        found = patched_log_probs(model, IDS, columns, states, [0, 1])
        assert_close(patched_log_probs(padded, IDS, columns, states, [0, 1]), found)
        hidden = patched_log_probs(model, IDS, columns, states, [0, 1], hidden_id=39)
        assert_close(hidden, found)
        with monkeypatch.context() as few:
            few.setattr(patching, "_AT_ONCE", 40)  # one variant at a time
            assert_close(patched_log_probs(model, IDS, columns, states, [0, 1]), found)
    assert not model._forward_hooks
