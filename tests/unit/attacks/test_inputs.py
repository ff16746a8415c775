"""Tests of `lit_unlearn.attacks.inputs`."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.attacks.inputs import (
    AttackRow,
    chunks,
    embedding_table,
    opener_ids,
    split_prompt,
    target_nll,
    virtual_tokens,
)
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.models.tiny import tiny_tokenizer as make_tiny_tokenizer
from lit_unlearn.types import Turn

ROWS = [AttackRow((1, 7), (9,), (4, 5)), AttackRow((8,), (9, 3, 2), (6,))]


@pytest.fixture
def encoder(tiny_tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tiny_tokenizer)


@pytest.mark.parametrize("history", [(), (Turn("user", "hi"), Turn("assistant", "ho"))])
def test_a_prompt_is_cut_at_the_end_of_its_question(
    encoder: Encoder, history: tuple[Turn, ...]
) -> None:
    turns = (*history, Turn("user", "Who?"))
    before, after = split_prompt(encoder, turns)
    assert [*before, *after] == encoder.prompt_ids(turns)
    assert encoder.tokenizer.decode(before).endswith("<|im_start|>user\nWho?")
    assert encoder.tokenizer.decode(after) == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_plain_prompt_is_cut_at_its_end(encoder: Encoder) -> None:
    turns = (Turn("user", "Once upon"),)
    before, after = split_prompt(encoder, turns, plain=True)
    assert (list(before), after) == (encoder.prompt_ids(turns, plain=True), ())


def test_a_template_that_hides_a_part_of_the_question() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.content[:12] }}{% endfor %}"
    with pytest.raises(InputError, match=r"show the whole question.*'Who wrote Emma\?'"):
        split_prompt(Encoder(tokenizer), (Turn("user", "Who wrote Emma?"),))


def test_opener_ids_follow_the_prompt(encoder: Encoder) -> None:
    ids = opener_ids(encoder, (Turn("user", "Who?"),), "Sure:")
    assert encoder.tokenizer.decode(ids) == "Sure:"
    with pytest.raises(InputError, match="`opener` should be a text"):
        opener_ids(encoder, (Turn("user", "Who?"),), "")


def test_target_nll_is_that_of_the_targets_after_the_prompts(tiny_model: PreTrainedModel) -> None:
    """Independently: each row alone, unpadded, the whole logits."""
    found = target_nll(tiny_model, ROWS, [[11, 12], [13]])
    for value, ids, target in zip(
        found, ([1, 7, 11, 12, 9], [8, 13, 9, 3, 2]), ([4, 5], [6]), strict=True
    ):
        log_probs = tiny_model(torch.tensor([[*ids, *target]])).logits[0].log_softmax(-1)
        wanted = [-log_probs[len(ids) - 1 + i, t] for i, t in enumerate(target)]
        assert_close(value, torch.stack(wanted).mean())


def test_virtual_tokens_with_a_tokens_own_embedding_are_that_token(
    tiny_model: PreTrainedModel,
) -> None:
    table = embedding_table(tiny_model)
    real = target_nll(tiny_model, ROWS, [[11, 12], [13, 11]])
    with virtual_tokens(tiny_model, table[[11, 12, 13]]):
        first = len(table)
        virtual = target_nll(tiny_model, ROWS, [[first, first + 1], [first + 2, first]])
    assert_close(virtual, real)


def test_virtual_tokens_are_generated_from_and_then_gone(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Generation from other vectors differs, from the token's own it is the same; afterwards the
    model knows no ids beyond its vocabulary.
    """
    table = embedding_table(tiny_model)
    plain = generate_answers(tiny_model, tiny_tokenizer, [[1, 11, 9], [11]], max_new_tokens=8)
    replies = []
    for vectors in (table[[11]], table[[40]] * 3):
        with virtual_tokens(tiny_model, vectors):
            prompts = [[1, len(table), 9], [len(table)]]
            replies.append(generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=8))
    assert replies[0] == plain
    assert replies[1] != plain
    with pytest.raises(IndexError):
        tiny_model(torch.tensor([[len(table)]]))


def test_chunks_cover_everything_once() -> None:
    assert [list(part) for part in chunks(5, 2)] == [[0, 1], [2, 3], [4]]
    assert chunks(0, 2) == []


def test_a_model_without_embeddings() -> None:
    with pytest.raises(InputError, match="table of token embeddings"):
        embedding_table(nn.Linear(2, 2))
