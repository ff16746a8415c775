"""A small Llama, and scenarios of runs on it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lit_unlearn.models.loading import (
    LoRA,
    ModelSource,
    recompute_activations,
    train_only,
    with_adapters,
)
from lit_unlearn.planning.scenario import Scenario

CONFIG = LlamaConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
PLAIN = ModelSource("given")
ADAPTED = replace(PLAIN, lora=LoRA(rank=8))
PARTLY = replace(PLAIN, trainable=["layers[.](1|2)[.]mlp[.]down_proj"])
CHECKPOINTED = replace(PLAIN, activation_checkpointing=True)


def real(source: ModelSource, **changes: Any) -> nn.Module:
    """The model with weights, as training would hold it."""
    config = LlamaConfig(**{**CONFIG.to_dict(), **changes})
    model: Any = LlamaForCausalLM(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names of transformers 4
        if source.lora is not None:
            model = with_adapters(model, source)
        if source.activation_checkpointing:
            recompute_activations(model)
            model.disable_input_require_grads()
    if source.trainable is not None:
        train_only(model, source.trainable)
    trained: nn.Module = model.train()
    return trained


def scenario(source: ModelSource = PLAIN, **changes: Any) -> Scenario:
    """A run on one CPU in float32 with AdamW that adds gradients up, and changes to it."""
    made = Scenario(
        source=source,
        config=CONFIG,
        precision="32-true",
        teacher=None,
        gradients="added up",
        optimizer_bytes=8.0,
        accelerator="cpu",
    )
    return replace(made, **changes)
