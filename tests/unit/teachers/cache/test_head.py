"""The output head alone: equal logits, and the models for which there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.teachers.cache.head import Head, head_inputs
from tests.unit.teachers.cache.test_build import SHORT, Speaker, build


def test_what_follows_the_head_is_done() -> None:
    """Gemma 2 squeezes its logits with 30 tanh(x / 30) behind the head."""
    config = Gemma2Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, initializer_range=5.0,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    logits, hidden = FrozenReader(model).logits(SHORT), head_inputs(Speaker(model), SHORT)
    linear = model.lm_head(hidden)
    assert linear.abs().max() > 60
    assert logits.abs().max() <= 30
    torch.testing.assert_close(Head(model).logits(hidden), logits)


class Scaling(LlamaForCausalLM):
    """Scales between body and head, so that the head's input is not the body's output."""

    def forward(self, *args: Any, **options: Any) -> Any:
        hidden = self.model(*args, **options).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(2 * hidden))


class Bodiless(LlamaForCausalLM):
    """Keeps its body in a place of its own."""

    base_model_prefix = "elsewhere"


@pytest.mark.parametrize("kind", [Scaling, Bodiless])
def test_a_head_that_cannot_be_used_alone(
    tiny_model: PreTrainedModel, tmp_path: Path, kind: type[LlamaForCausalLM]
) -> None:
    with pytest.raises(InputError, match=f"`.*cache` should be false for a {kind.__name__}"):
        build(kind(tiny_model.config), tmp_path, SHORT)


def test_rounding_is_told_from_another_model(tiny_model: PreTrainedModel) -> None:
    """Differences of a twentieth of the spread are rounding, in the tail of the vocabulary too.

    One entry of a thousand may be off by far more than the mean; those of a model with other
    weights are off as much as logits differ from each other.
    """
    model = tiny_model.eval()
    hidden = head_inputs(Speaker(model), SHORT)
    logits = Head(model).logits(hidden)
    spread = logits - logits.mean(-1, keepdim=True)
    noise = 0.05 * spread.square().mean().sqrt() * torch.randn_like(logits)
    noise[0, 0] *= 10
    assert Head(model).agrees(hidden, logits + noise)
    assert not Head(model).agrees(hidden, logits + spread.flip(-1))
    assert not Head(model).agrees(hidden.flip(-1), logits)
