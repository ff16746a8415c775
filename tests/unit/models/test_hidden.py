"""Hidden states and steered passes: the model's own numbers, for any wrapping of the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.hidden import (
    ModelReader,
    hidden_states,
    steered_logits,
)
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.models.tiny import tiny_model as make_tiny_model

BATCH = tokens([[1, 5, 6, 7], [1, 8, 9, 10, 11, 12]], [2, 4], [2, 2], pad_id=0)


def test_equal_to_the_models_own(tiny_model: PreTrainedModel) -> None:
    """transformers' `hidden_states[k]` is the output of block k; the last one is normed."""
    model = make_tiny_model(layers=4)
    whole = model(
        input_ids=BATCH.input_ids, attention_mask=BATCH.attention_mask, output_hidden_states=True
    ).hidden_states
    expected = torch.stack([whole[k][BATCH.rows, BATCH.columns] for k in (1, 3)])
    torch.testing.assert_close(hidden_states(model, BATCH, [0.25, 0.75]), expected)
    every = hidden_states(model, BATCH)
    assert every.shape == (4, 4, 32)
    torch.testing.assert_close(every[[0, 2]], expected)
    torch.testing.assert_close(model.model.norm(every[3]), whole[4][BATCH.rows, BATCH.columns])


def test_order_of_depths_is_kept_also_when_repeated(tiny_model: PreTrainedModel) -> None:
    first, last, again = hidden_states(tiny_model, BATCH, [0.5, 1.0, 0.5])
    assert torch.equal(first, again)
    assert not torch.equal(first, last)


@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    "source",
    [
        ModelSource(TINY_NAME, lora=LoRA(rank=2)),
        ModelSource(TINY_NAME, activation_checkpointing=True),
        ModelSource(TINY_NAME, lora=LoRA(rank=2), activation_checkpointing=True),
    ],
    ids=["lora", "checkpointing", "both"],
)
def test_the_same_under_adapters_and_checkpointing(source: ModelSource) -> None:
    """Values of both passes as without the wrapping, and a backward pass that goes through."""
    student, plain = load_student(source), make_tiny_model()
    torch.testing.assert_close(hidden_states(student, BATCH), hidden_states(plain, BATCH))
    for model in (student, plain):
        hidden_states(model, BATCH, [0.5]).sum().backward()
        steered_logits(model, BATCH, 0.5, lambda h: h + 1).sum().backward()
    if source.lora is None:
        for one, other in zip(student.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    else:
        assert any(p.grad is not None for p in student.parameters())


def test_steering_changes_what_follows(tiny_model: PreTrainedModel) -> None:
    plain = answer_logits(tiny_model, BATCH)
    torch.testing.assert_close(steered_logits(tiny_model, BATCH, 0.5, lambda h: h), plain)
    last = steered_logits(tiny_model, BATCH, 1.0, lambda h: torch.ones_like(h))
    expected = tiny_model.lm_head(tiny_model.model.norm(torch.ones(32)))
    torch.testing.assert_close(last, expected.expand_as(last))
    assert torch.equal(answer_logits(tiny_model, BATCH), plain)


def test_reader_lets_gradients_flow(tiny_model: PreTrainedModel) -> None:
    reader = ModelReader(tiny_model)
    assert reader.hidden(BATCH, [0.5]).requires_grad
    assert reader.steered_logits(BATCH, 0.5, lambda h: h).requires_grad
    torch.testing.assert_close(reader.logits(BATCH), answer_logits(tiny_model, BATCH))


def test_hooks_are_removed_after_an_error(tiny_model: PreTrainedModel) -> None:
    def fail(hidden: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("change")

    with pytest.raises(RuntimeError, match="change"):
        steered_logits(tiny_model, BATCH, 0.5, fail)
    assert not any(block._forward_hooks for block in decoder_blocks(tiny_model))


def test_bad_input(tiny_model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"`depth`.*Found 7"):
        hidden_states(tiny_model, BATCH, [7])
    with pytest.raises(InputError, match="objectives on logits"):
        hidden_states(nn.Linear(2, 2), BATCH)
