"""Packed rows: what each row gives alone, without the work for padding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lit_unlearn.data.collation import tokens
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import recompute_activations
from lit_unlearn.models.packing import packable, packed, rows_read
from lit_unlearn.types import Tokens

ROWS = [[1, 5, 6, 7], [1, 8, 9, 10, 11, 12, 13, 14, 15], [2, 3]]
STARTS, COUNTS = [2, 4, 1], [2, 5, 1]
BATCH = tokens(ROWS, STARTS, COUNTS, pad_id=0)
SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "gpt_neox", "olmo2"]


def made(family: str, **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    extra = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **options}
    if family != "gpt_neox":
        extra = {"num_key_value_heads": 2, **extra}
    if family == "gemma":
        extra = {"head_dim": 4, **extra}
    config = AutoConfig.for_model(family, **SMALL, **extra)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval()


def alone(model: nn.Module) -> Tensor:
    """Each row by itself, without padding, through transformers' own attention."""
    parts = []
    for row, start, count in zip(ROWS, STARTS, COUNTS, strict=True):
        parts.append(answer_logits(model, tokens([row], [start], [count], 0), pack=False))
    return torch.cat(parts)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_each_row_alone(family: str) -> None:
    model = made(family)
    assert packed(model, BATCH) is not None
    assert_close(answer_logits(model, BATCH), alone(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_each_row_alone(checkpointing: bool) -> None:
    """Also where the backward pass runs the forward pass again."""
    model = made("llama").train()
    other = copy.deepcopy(model)
    if checkpointing:
        recompute_activations(model)
    answer_logits(model, BATCH).log_softmax(-1)[:, 3].sum().backward()
    alone(other).log_softmax(-1)[:, 3].sum().backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-6)


def test_padding_on_the_left_and_what_it_holds_make_no_difference() -> None:
    model = made("llama")
    width = max(map(len, ROWS))
    ids = torch.full((len(ROWS), width), 7)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(ROWS):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    shift = torch.tensor([width - len(sequence) for sequence in ROWS])
    left = Tokens(ids, mask, BATCH.rows, BATCH.columns + shift[BATCH.rows])
    assert_close(answer_logits(model, left), alone(model), rtol=1e-5, atol=1e-6)


def test_operations_grow_with_real_tokens_only() -> None:
    """Matrix products of 3 + 8 + 1 tokens up to the last predictions, not of 27 with padding."""
    model = made("llama")
    one = tokens([[1] * 13], [12 - sum(COUNTS) + 1], [sum(COUNTS)], 0)

    def operations(batch: Tokens) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            answer_logits(model, batch)
        counts = counter.get_flop_counts()["Global"]
        return sum(n for name, n in counts.items() if "attention" not in str(name))

    assert operations(BATCH) == operations(one)


def test_rows_end_with_their_last_prediction() -> None:
    """Also where padding stands in front; a row without prediction keeps one token."""
    assert rows_read(BATCH) == [[1, 5, 6], [1, 8, 9, 10, 11, 12, 13, 14], [2]]
    left = Tokens(
        torch.tensor([[0, 0, 4, 5, 6], [0, 3, 4, 5, 6]]),
        torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]),
        torch.tensor([0]),
        torch.tensor([3]),
    )
    assert rows_read(left) == [[4, 5], [3]]


def test_what_cannot_be_packed_is_padded() -> None:
    llama = made("llama")
    assert packed(llama, tokens(ROWS[:1], [3], [2], 0)) is None  # nothing to be saved
    assert not packable(nn.Linear(2, 2), 4)
    windowed = made("mistral", sliding_window=8)
    assert packable(windowed, 8)
    assert not packable(windowed, 9)
    assert_close(answer_logits(windowed, BATCH), alone(windowed), rtol=1e-5, atol=1e-6)
    eager = made("llama")
    eager.set_attn_implementation("eager")
    assert packed(eager, BATCH) is None
    assert_close(answer_logits(eager, BATCH), alone(llama), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------- a shared beginning

CONTEXT = [1, 9, 4, 4, 7, 2, 8, 6, 5, 3]


NESTED = tokens(
    [CONTEXT * 2 + [6, *row] for row in ROWS] + [CONTEXT * 2 + [8, *ROWS[0]], ROWS[1], ROWS[1]],
    [24, 25, 22, 24, 4, 4],
    [2, 5, 1, 2, 5, 5],
    0,
)
"""Four rows behind one context of 20 tokens, and one row twice: 20 + 5 + 9 + 2 + 5 + 8 tokens."""


def apart(model: nn.Module, batch: Tokens) -> Tensor:
    """Each row of a batch by itself, through transformers' own attention."""
    rows = [batch.select_rows(torch.tensor([row])) for row in range(len(batch.input_ids))]
    return torch.cat([answer_logits(model, row, pack=False) for row in rows])


def read_tokens(model: nn.Module, batch: Tokens) -> int:
    """How many tokens the first decoder block gets."""
    seen: list[int] = []
    block = next(m for m in model.modules() if isinstance(m, nn.ModuleList))[0]
    handle = block.register_forward_hook(lambda *given: seen.append(given[2].numel()))
    width = model.config.hidden_size
    answer_logits(model, batch)
    handle.remove()
    return seen[0] // width


def test_bfloat16_differs_by_rounding() -> None:
    model = made("llama").to(torch.bfloat16)
    assert_close(answer_logits(model, NESTED), apart(model, NESTED), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_common_beginnings_are_read_once(family: str) -> None:
    model = made(family)
    assert read_tokens(model, NESTED) == 49
    assert_close(answer_logits(model, NESTED), apart(model, NESTED), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_common_beginnings_are_those_of_each_row(
    family: str, checkpointing: bool
) -> None:
    model = made(family).train()
    other = copy.deepcopy(model)
    if checkpointing:
        recompute_activations(model)
    answer_logits(model, NESTED).log_softmax(-1)[:, 3].sum().backward()
    apart(other, NESTED).log_softmax(-1)[:, 3].sum().backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        if one.grad is not None and two.grad is not None:
            assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)


def test_dropout_draws_for_each_row() -> None:
    """Rows with equal tokens get masks of their own in training, so nothing is shared."""
    model = made("llama", attention_dropout=0.5)
    assert read_tokens(model, NESTED) == 49
    assert read_tokens(model.train(), NESTED) == sum(map(len, rows_read(NESTED)))
