"""Adapters merged into their model, also where embedding and output head share one weight."""

from __future__ import annotations

from typing import Any

from torch import nn

from lit_unlearn.distributed.ranks import base_model

__all__ = ["merged", "own_layer", "parts_weights", "shared_weight"]


def own_layer(part: Any) -> Any:
    """Return the model's own layer under the adapters of peft, or the layer itself."""
    while True:
        inner = getattr(part, "base_layer", None) or getattr(part, "original_module", None)
        if inner is None:
            return part
        part = inner


def shared_weight(model: Any) -> bool:
    """Return whether a model's embedding and output head are one parameter (tied)."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding is None or head is None:
        return False
    return own_layer(embedding).weight is own_layer(head).weight


def parts_weights(model: Any) -> bool:
    """Return whether adapters tell a model's embedding and output head apart, which are tied."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return shared_weight(model) and any(own_layer(end) is not end for end in ends)


def merged(model: Any) -> Any:
    """Merge the adapters of peft into their model, in place, and return the plain model.

    peft merges an adapter of the embedding into the shared weight, and so changes the head too.
    Where an adapter is on one of the two, the head therefore gets a weight of its own first.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    base: Any = base_model(model)
    if parts_weights(base):
        head = own_layer(base.get_output_embeddings())
        head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
        for config in (base.config, base.config.get_text_config()):
            config.tie_word_embeddings = False
    return model.merge_and_unload()
