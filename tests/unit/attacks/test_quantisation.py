"""Tests of `lit_unlearn.attacks.quantisation`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from lit_unlearn.attacks.quantisation import quantisation_step, quantised_copy, round_to_nearest
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import LoRA, ModelSource, load_student


def test_worked_values() -> None:
    """3 bits: integers -3 to 3. Row 1 has step 3 / 3 = 1, row 2 step 6 / 3 = 2.

    0.4 -> 0, -1.6 -> -2, 3 -> 3; and 6 -> 3 * 2, -1.2 / 2 = -0.6 -> -1 * 2, 0.9 / 2 = .45 -> 0.
    """
    weight = torch.tensor([[0.4, -1.6, 3.0], [6.0, -1.2, 0.9]])
    assert_close(quantisation_step(weight, 3), torch.tensor([[1.0], [2.0]]))
    assert_close(round_to_nearest(weight, 3), torch.tensor([[0.0, -2.0, 3.0], [6.0, -2.0, 0.0]]))


def test_groups_have_steps_of_their_own() -> None:
    """In one group of five, step 30 / 3 = 10 and everything small is lost; in groups of two, the
    first has step 1, and the last group is the single -0.7, which is its own largest weight.
    """
    weight = torch.tensor([[3.0, 1.4, 30.0, 4.0, -0.7]])
    assert_close(round_to_nearest(weight, 3), torch.tensor([[0.0, 0.0, 30.0, 0.0, 0.0]]))
    assert_close(round_to_nearest(weight, 3, 2), torch.tensor([[3.0, 1.0, 30.0, 0.0, -0.7]]))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group_size", [None, 1, 5, 8, 100])
def test_at_most_half_a_step_per_weight_on_a_grid(bits: int, group_size: int | None) -> None:
    """Independently: nearest of all grid points of each group, found by trying them all."""
    weight = torch.randn(3, 13, dtype=torch.float64).float()
    rounded = round_to_nearest(weight, bits, group_size)
    for old, new in zip(weight, rounded, strict=True):
        for start in range(0, 13, group_size or 13):
            before, after = old[start : start + (group_size or 13)], new[start:][: group_size or 13]
            most = 2 ** (bits - 1) - 1
            step = float(before.abs().max()) / most
            grid = torch.arange(-most, most + 1) * step
            distances = (before[:, None] - grid).abs().min(dim=1).values
            assert_close((before - after).abs(), distances, atol=1e-5, rtol=0)
            assert float((before - after).abs().max()) <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zeros_stay_zero_and_a_second_rounding_changes_nothing(bits: int) -> None:
    assert not round_to_nearest(torch.zeros(2, 3), bits).any()
    once = round_to_nearest(torch.randn(4, 9), bits, 4)
    assert_close(round_to_nearest(once, bits, 4), once)


def test_the_number_format_stays() -> None:
    assert round_to_nearest(torch.randn(2, 4).bfloat16(), 4).dtype == torch.bfloat16


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 16)])
def test_only_linear_layers_change_each_weight_by_half_a_step_at_most(
    tiny_model: PreTrainedModel, bits: int, group_size: int | None
) -> None:
    before = weights(tiny_model)
    changed = weights(quantised_copy(tiny_model, bits, group_size))
    for name, old in before.items():
        if "proj" not in name:
            assert torch.equal(changed[name], old), name
            continue
        assert not torch.equal(changed[name], old), name
        groups = zip(
            old.split(group_size or old.shape[1], 1),
            changed[name].split(group_size or old.shape[1], 1),
            strict=True,
        )
        for first, second in groups:
            assert ((first - second).abs() <= quantisation_step(first, bits) * 0.50001).all(), name
    assert all(torch.equal(value, before[name]) for name, value in weights(tiny_model).items())


def test_embeddings_only_when_asked_and_tied_ones_stay_tied(tiny_model: PreTrainedModel) -> None:
    changed = quantised_copy(tiny_model, 4, embeddings=True)
    table = changed.get_input_embeddings().weight  # type: ignore[operator]
    old = tiny_model.get_input_embeddings().weight
    assert table is changed.get_output_embeddings().weight  # type: ignore[operator]
    assert_close(table, round_to_nearest(old, 4))


def test_layers_that_hold_their_weights_transposed() -> None:
    """GPT-2's layers have inputs as rows; a scale belongs to an output all the same."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    old = model.transformer.h[0].mlp.c_fc.weight.detach().clone()
    new = quantised_copy(model, 4, 4).transformer.h[0].mlp.c_fc.weight  # type: ignore[union-attr]
    assert_close(new, round_to_nearest(old.T, 4, 4).T)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_are_merged_first() -> None:
    """With an adapter that is not zero: no adapter is left, and what is rounded is the sum."""
    model = load_student(ModelSource("random-tiny", lora=LoRA(rank=2, alpha=2.0)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    layer = model.base_model.model.model.layers[0].mlp.up_proj  # type: ignore[union-attr, operator]
    whole = layer.weight + layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = quantised_copy(model, 4)
    assert not any("lora" in name for name in weights(merged))
    new = merged.model.layers[0].mlp.up_proj.weight  # type: ignore[union-attr]
    assert_close(new, round_to_nearest(whole, 4))
    assert any("lora_B" in name for name in weights(model))


@pytest.mark.parametrize(
    ("bits", "group_size", "message"),
    [(1, None, "`bits`.*at least 2.*16.*Found 1"), (4, 0, "`group_size`.*Found 0")],
)
def test_grids_that_make_no_sense(bits: int, group_size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        round_to_nearest(torch.ones(1, 1), bits, group_size)


class _OnlyAHead(nn.Module):
    """A model whose single linear layer is its head, which is left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def test_a_model_with_nothing_to_round() -> None:
    with pytest.raises(InputError, match=r"linear layers.*none in a _OnlyAHead"):
        quantised_copy(_OnlyAHead(), 4)
