"""Decoder blocks, by number and by relative depth."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig, PreTrainedModel

from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import block_index, decoder_blocks
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME

MIXTRAL = MixtralConfig(
    vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, num_local_experts=2,
)  # fmt: skip


def test_blocks_of_other_families() -> None:
    """GPT-2 calls them `h`; Mixtral has as many experts in a block as it has blocks."""
    gpt = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_layer=3, n_head=2, vocab_size=20))
    assert decoder_blocks(gpt) == list(gpt.transformer.h)
    mixtral = AutoModelForCausalLM.from_config(MIXTRAL)
    assert decoder_blocks(mixtral) == list(mixtral.model.layers)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_blocks_below_adapters() -> None:
    student = load_student(ModelSource(TINY_NAME, lora=LoRA(rank=2)))
    blocks = decoder_blocks(student)
    assert len(blocks) == 2
    assert all(any("lora_" in name for name, _ in block.named_parameters()) for block in blocks)


def test_index_worked_values() -> None:
    """0.25 of 32 blocks is the 8th (index 7), of 30 the 8th, of 2 the first; 1 is the last."""
    found = [block_index(d, n) for d, n in ((0.25, 32), (0.25, 30), (0.25, 2), (1.0, 24))]
    assert found == [7, 7, 0, 23]
    assert [block_index(b / 32, 32) for b in (10, 20)] == [9, 19]


def test_bad_input(tiny_model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"`depth`.*Found 7"):
        block_index(7, len(decoder_blocks(tiny_model)))
    with pytest.raises(InputError, match="Found a Linear without one"):
        decoder_blocks(nn.Linear(2, 2))
