"""Logits at answer positions: the same numbers, without the [B, T, V] tensor."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import (
    FrozenReader,
    answer_logits,
    evaluating,
    same_up_to_rounding,
)
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.tiny import tiny_model as make_tiny_model

SEQUENCES = [[1, 5, 6, 7], [1, 8, 9, 10, 11, 12]]


def test_equals_the_whole_forward(tiny_model: PreTrainedModel) -> None:
    batch = tokens(SEQUENCES, [2, 4], [2, 2], pad_id=0)
    whole = tiny_model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    expected = whole[batch.rows, batch.columns]
    torch.testing.assert_close(answer_logits(tiny_model, batch), expected)


def test_gradient_flows_for_the_student_only(tiny_model: PreTrainedModel) -> None:
    batch = tokens(SEQUENCES, [2, 4], [2, 2], pad_id=0)
    assert ModelReader(tiny_model).logits(batch).requires_grad
    assert not FrozenReader(tiny_model).logits(batch).requires_grad


def test_evaluating_restores_every_mode(tiny_model: PreTrainedModel) -> None:
    tiny_model.train()
    tiny_model.lm_head.eval()
    with evaluating(tiny_model):
        assert not any(module.training for module in tiny_model.modules())
    assert tiny_model.training
    assert not tiny_model.lm_head.training


def test_hook_is_removed_after_an_error(tiny_model: PreTrainedModel) -> None:
    batch = tokens([[1, 5]], [1], [1], pad_id=0)
    broken = batch.__class__(
        batch.input_ids + 10**6, batch.attention_mask, batch.rows, batch.columns
    )
    with pytest.raises(IndexError):
        answer_logits(tiny_model, broken)
    assert tiny_model(input_ids=batch.input_ids).logits.shape[:2] == (1, 2)


def test_model_without_head() -> None:
    with pytest.raises(InputError, match="causal language model"):
        answer_logits(nn.Linear(2, 2), tokens([[1, 5]], [1], [1], pad_id=0))


def _largest_tensor(prompt: int, answer: int) -> int:
    """Elements of the largest tensor that a training step saves or makes."""
    model = make_tiny_model(hidden_size=8, layers=1, vocabulary=20_000)
    sequence = [1] * (prompt + answer)
    batch = tokens([sequence, sequence], [prompt, prompt], [answer, answer], pad_id=0)
    sizes: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(0 if isinstance(tensor, nn.Parameter) else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = answer_logits(model, batch)
        logits.log_softmax(-1).sum().backward()
    return max(*sizes, logits.numel())


def test_memory_grows_with_answer_tokens_and_not_with_prompt_tokens() -> None:
    """The largest activation is [N, V] = 2 x 4 x 20,000, whatever the length of the prompt.

    A [B, T, V] tensor would have 2 x 260 x 20,000 elements.
    """
    assert _largest_tensor(prompt=16, answer=4) == 2 * 4 * 20_000
    assert _largest_tensor(prompt=256, answer=4) == 2 * 4 * 20_000
    assert _largest_tensor(prompt=16, answer=8) == 2 * 8 * 20_000


@pytest.mark.parametrize(("noise", "same"), [(0.0, True), (0.1, True), (0.3, False), (2.0, False)])
def test_rounding_is_told_from_another_model(noise: float, same: bool) -> None:
    logits = 100 + torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    found = logits + noise * torch.randn(4, 1000, generator=torch.Generator().manual_seed(1))
    assert same_up_to_rounding(found, logits) is same
    assert not same_up_to_rounding(found[:2], logits)
