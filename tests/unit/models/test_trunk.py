"""Tests of the trunk: passes that start above it give the logits and gradients of whole ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import (
    LoRA,
    ModelSource,
    recompute_activations,
    train_only,
    with_adapters,
)
from lit_unlearn.models.packing import packed
from lit_unlearn.models.trunk import (
    segment_states,
    starting_above,
    trunk_digest,
    trunk_height,
    trunk_outputs,
)
from tests.unit.models.test_packing import BATCH, FAMILIES, NESTED, made


def upper(family: str, **options: float) -> PreTrainedModel:
    """Two blocks, of which the second is trained."""
    model = made(family, **options)
    second = list(decoder_blocks(model)[1].parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is p for p in second))
    return model.train()


def above(model: nn.Module) -> Tensor:
    height, reason = trunk_height(model)
    assert (height, reason) == (1, "")
    dense = packed(model, NESTED, always=True)
    assert dense is not None
    states = segment_states(dense.tree, trunk_outputs(model, height, NESTED))
    ran: list[int] = []
    for index, block in enumerate(decoder_blocks(model)):
        mlp = block.mlp
        mlp.register_forward_hook(lambda *_, index=index: ran.append(index))
    with starting_above(model, height, states):
        logits = model(**dense.arguments).logits[0, dense.places].float()
    assert ran == [1]
    return logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_logits_and_gradients_are_those_of_whole_passes(family: str, checkpointing: bool) -> None:
    model = upper(family)
    other = copy.deepcopy(model)
    if checkpointing:
        recompute_activations(model)
    found, expected = above(model), answer_logits(other, NESTED)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.log_softmax(-1)[:, 3].sum().backward()
    expected.log_softmax(-1)[:, 3].sum().backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        if one.grad is not None and two.grad is not None:
            assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)
    assert_close(answer_logits(model, NESTED), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_on_upper_blocks() -> None:
    source = ModelSource("x", lora=LoRA(rank=2, target_modules=["q_proj"]))
    model = with_adapters(made("llama"), source)
    assert trunk_height(model) == (0, "the first decoder block is trained")
    train_only(model, ["layers[.]1[.].*lora"])
    model.train()
    assert_close(above(model), answer_logits(model, NESTED), rtol=1e-5, atol=1e-5)


def test_outputs_are_those_of_each_row() -> None:
    model = upper("llama")
    caught: list[Tensor] = []
    decoder_blocks(model)[0].register_forward_hook(lambda *given: caught.append(given[2]))
    for row, states in enumerate(trunk_outputs(model, 1, BATCH)):
        model(BATCH.input_ids[row : row + 1], attention_mask=BATCH.attention_mask[row : row + 1])
        last = int(BATCH.columns[BATCH.rows == row].max())
        assert_close(states, caught[-1][0, : last + 1], rtol=1e-5, atol=1e-6)


def test_where_there_is_no_trunk() -> None:
    model = upper("llama", attention_dropout=0.5)
    assert "dropout" in trunk_height(model)[1]
    assert trunk_height(model.eval())[0] == 1
    tied = made("llama", tie_word_embeddings=True)
    train_only(tied, ["embed_tokens"])
    assert "embed_tokens" in trunk_height(tied)[1]
    only_norm = made("llama")
    train_only(only_norm, ["model[.]norm"])
    assert trunk_height(only_norm) == (2, "")
    assert "no list" in trunk_height(nn.Linear(2, 2))[1]


def test_digest_is_that_of_the_trunk_alone() -> None:
    """Weights of the trunk and of the embedding change it, weights above do not."""
    model = upper("llama")
    digest = trunk_digest(model, 1)
    with torch.no_grad():
        model.get_submodule("model.norm").weight.add_(1)
        decoder_blocks(model)[1].get_submodule("mlp.up_proj").weight.add_(1)
        assert trunk_digest(model, 1) == digest
        decoder_blocks(model)[0].get_submodule("mlp.up_proj").weight[0, 0] += 1e-3
        changed = trunk_digest(model, 1)
        assert changed != digest
        model.get_input_embeddings().weight[3, 0] += 1e-3
        assert trunk_digest(model, 1) not in (digest, changed)
