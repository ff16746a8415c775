"""Prompts that are read once: generation goes on from a packed pass as from passes of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.data.collation import tokens
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.prompt_reading import can_continue, left_padded, logits_and_prompts
from tests.unit.models.test_packing import FAMILIES, made

SHARED = [1, *range(3, 25)]
PROMPTS = [[*SHARED, 7], [*SHARED, 8, 9, 10], [2, 5]]
ANSWERED = [*PROMPTS[0], 30, 31]


def pieces(model: Any, count: list[int]) -> None:
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _, given, __: count.append(given[0].numel()))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_continuations_are_those_of_each_row_alone(family: str) -> None:
    """The tree: a beginning of 23 tokens, of which one prompt ends; 2 and 2 more; 1 of another."""
    model: Any = made(family)
    read: list[int] = []
    pieces(model, read)
    begun = [prompt[:-1] for prompt in PROMPTS]
    batch = tokens([ANSWERED[:-1], *begun], [24, 1, 1, 1], [2, 0, 0, 0], 0)
    with torch.no_grad():
        logits, states = logits_and_prompts(model, batch, len(PROMPTS))
        assert read == [23 + 2 + 2 + 1]
        longest = max(map(len, PROMPTS))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in PROMPTS])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in PROMPTS])
        position = mask.sum(1, keepdim=True) - 1
        following: Tensor = model(
            input_ids=ids[:, -1:],
            attention_mask=mask,
            position_ids=position,
            past_key_values=left_padded(states),
        ).logits[:, -1]
        assert_close(logits, answer_logits(model, tokens([ANSWERED], [24], [2], 0)))
        for prompt, found in zip(PROMPTS, following, strict=True):
            alone = answer_logits(model, tokens([prompt], [len(prompt)], [1], 0))
            assert_close(found[None].float(), alone, rtol=1e-5, atol=1e-5)


def test_models_that_must_read_prompts_themselves() -> None:
    windowed = made("mistral", sliding_window=8)
    assert can_continue(windowed, 8)
    assert not can_continue(windowed, 9)
    hooked = made("llama")
    assert can_continue(hooked, 9)
    hooked.register_forward_hook(lambda *given: None)  # as Throughput does
    assert can_continue(hooked, 9)
    hooked.register_forward_hook(lambda *given: None, with_kwargs=True)
    assert not can_continue(hooked, 9)
