from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_unlearn.gradients.collect import (
    add_to,
    combine,
    layer_groups,
    take_gradient,
    write_gradient,
)


def two_parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([[3.0]]))]


def test_take_swaps_pointers() -> None:
    parameters = two_parameters()
    (parameters[0] ** 2).sum().backward()
    grad = parameters[0].grad
    gradient = take_gradient(parameters)
    assert gradient[0] is grad
    assert gradient[1] is None
    assert all(p.grad is None for p in parameters)


def test_take_then_write_restores() -> None:
    parameters = two_parameters()
    (parameters[0] ** 2).sum().backward()
    gradient = take_gradient(parameters)
    write_gradient(parameters, gradient)
    assert parameters[0].grad is gradient[0]
    assert parameters[1].grad is None


def test_accumulation_equals_one_backward_of_the_sum() -> None:
    """Two micro-batches, of which each touches another parameter as well as the first."""
    parameters = two_parameters()
    first, second = parameters

    def losses() -> tuple[torch.Tensor, torch.Tensor]:
        return (first**3).sum(), (first.sum() * second).sum()

    total = take_gradient(parameters)
    assert total == [None, None]
    for loss in losses():
        loss.backward()
        add_to(total, take_gradient(parameters))
    sum(losses()).backward()
    for found, expected in zip(total, take_gradient(parameters), strict=True):
        assert_close(found, expected)


def test_combine_worked_value() -> None:
    """2 (1, 2) - 1 (3, 4) = (-1, 0); a gradient that is None is zero; None where all are."""
    gradients = [
        [torch.tensor([1.0, 2.0]), None, None],
        [torch.tensor([3.0, 4.0]), torch.tensor([5.0]), None],
    ]
    found = combine(gradients, torch.tensor([2.0, -1.0]))
    assert found[2] is None
    assert_close(found[0], torch.tensor([-1.0, 0.0]))
    assert_close(found[1], torch.tensor([-5.0]))
    assert_close(gradients[0][0], torch.tensor([1.0, 2.0]))  # inputs stay as they are


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_combine_rounds_once(dtype: torch.dtype) -> None:
    gradients = [[torch.full((3,), v).to(dtype)] for v in (1.0, 0.003, 0.003, 0.003)]
    weights = torch.ones(4, dtype=torch.float64)
    (found,) = combine(gradients, weights)
    exact = torch.stack([gradient[0].double() for gradient in gradients]).sum(0)
    assert found is not None
    assert found.dtype == dtype
    assert_close(found, exact.to(dtype))


def test_combine_lets_non_finite_values_through() -> None:
    (found,) = combine([[torch.tensor([torch.inf])], [torch.ones(1)]], torch.tensor([0.0, 1.0]))
    assert found is not None
    assert found.isnan().all()


def test_wrong_lengths() -> None:
    one = [torch.ones(1)]
    with pytest.raises(ValueError, match=r"`weights` should have 1 entries. Found 2"):
        combine([one], torch.ones(2))
    with pytest.raises(ValueError, match=r"`gradients` should have 1 entries. Found 2"):
        combine([one, [*one, None]], torch.ones(2))
    with pytest.raises(ValueError, match="`other`"):
        add_to([], one)
    with pytest.raises(ValueError, match="`gradient`"):
        write_gradient([], one)


# ---------------------------------------------------------------------------------- layer groups


def groups_of(*names: str) -> dict[str, list[int]]:
    return layer_groups((name, torch.empty(0)) for name in names)


def test_layer_groups_of_a_real_model(tiny_model: PreTrainedModel) -> None:
    named = [(n, p) for n, p in tiny_model.named_parameters() if p.requires_grad]
    groups = layer_groups(named)
    blocks = [f"block.{i:02d}" for i in range(tiny_model.config.num_hidden_layers)]
    assert list(groups) == ["embedding", *blocks, "head"]
    assert sorted(i for found in groups.values() for i in found) == list(range(len(named)))
    assert [named[i][0] for i in groups["embedding"]] == ["model.embed_tokens.weight"]
    assert "model.norm.weight" in [named[i][0] for i in groups["head"]]


@pytest.mark.parametrize(
    ("embedding", "block", "head"),
    [
        (["model.embed_tokens.weight"], "model.layers.7.mlp.up_proj.weight", "lm_head.weight"),
        (["transformer.wte.weight", "transformer.wpe.weight"], "transformer.h.7.ln_1.weight",
         "transformer.ln_f.bias"),
        (["gpt_neox.embed_in.weight"], "gpt_neox.layers.7.input_layernorm.bias",
         "embed_out.weight"),
        (["transformer.word_embeddings.weight", "transformer.word_embeddings_layernorm.weight"],
         "transformer.h.7.self_attention.dense.weight", "transformer.ln_f.weight"),
        (["model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"],
         "model.decoder.layers.7.fc1.weight", "model.decoder.final_layer_norm.weight"),
        (["backbone.embeddings.weight"], "backbone.layers.7.norm.weight", "backbone.norm_f.weight"),
        (["transformer.wte.weight"], "transformer.blocks.7.norm_1.weight",
         "transformer.norm_f.weight"),
        (["model.embed_tokens.weight"], "model.layers.7.mlp.experts.3.w1.weight",
         "model.norm.weight"),
    ],
    ids=["llama", "gpt2", "gpt_neox", "bloom", "opt", "mamba", "mpt", "mixtral"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "base_model.model."])
def test_layer_groups_by_name(prefix: str, embedding: list[str], block: str, head: str) -> None:
    names = [prefix + name for name in (head, block, *embedding)]
    expected = {"embedding": [*range(2, len(names))], "block.07": [1], "head": [0]}
    assert groups_of(*names) == expected
    assert list(groups_of(*names)) == list(expected)


def test_layer_groups_of_adapters() -> None:
    prefix = "base_model.model."
    found = groups_of(
        f"{prefix}model.embed_tokens.lora_embedding_A.default",
        f"{prefix}model.layers.0.self_attn.q_proj.lora_A.default.weight",
        f"{prefix}model.layers.11.self_attn.q_proj.lora_B.default.weight",
        f"{prefix}lm_head.lora_A.default.weight",
    )
    assert found == {"embedding": [0], "block.00": [1], "block.11": [2], "head": [3]}


def test_layer_groups_other_and_many_blocks() -> None:
    """Blocks sort by number, not by name; three digits when one of them needs them."""
    found = groups_of("model.layers.100.a.b", "vision.projector.weight", "model.layers.9.a.b")
    assert list(found.items()) == [("block.009", [2]), ("block.100", [0]), ("other", [1])]
    assert layer_groups([]) == {}
