"""Tests of `lit_unlearn.models.generation` on a random Llama in fp32."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.errors import InputError
from lit_unlearn.models.generation import (
    generate_answers,
    generate_replies,
    pad_left,
    stop_ids,
)
from lit_unlearn.models.tiny import tiny_tokenizer as make_tiny_tokenizer

TEXTS = ("hello", "a much longer prompt than the others", "b", "numbers 1 2 3", "hello there")


@pytest.fixture
def prompts(tiny_tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return [tiny_tokenizer(text)["input_ids"] for text in TEXTS]


def naive_greedy(model: PreTrainedModel, prompt: list[int], steps: int, stops: list[int]) -> Tensor:
    """Greedy search written out: no padding, no cache, one token at a time."""
    ids = torch.tensor([prompt])
    for _ in range(steps):
        best = model(input_ids=ids).logits[0, -1].argmax()
        if int(best) in stops:
            break
        ids = torch.cat([ids, best[None, None]], dim=1)
    return ids[0, len(prompt) :]


def test_equals_greedy_search_written_out(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    tiny_model.eval()
    stops = stop_ids(tiny_model, tiny_tokenizer)
    with torch.no_grad():
        wanted = [
            tiny_tokenizer.decode(
                naive_greedy(tiny_model, p, 12, stops), skip_special_tokens=True
            ).strip()
            for p in prompts
        ]
    assert generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=12) == wanted
    assert len(set(wanted)) > 1  # the model does not say the same thing to all


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batch_size_and_order_change_nothing(
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    batch_size: int,
) -> None:
    wanted = generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=10, batch_size=5)
    turned = generate_answers(
        tiny_model, tiny_tokenizer, prompts[::-1], max_new_tokens=10, batch_size=batch_size
    )
    assert turned[::-1] == wanted


def test_pad_token_may_be_missing_or_equal_to_end_of_turn(
    tiny_model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    tokenizer = make_tiny_tokenizer()
    assert tokenizer.pad_token is None
    without = generate_answers(tiny_model, tokenizer, prompts, max_new_tokens=8)
    tokenizer.pad_token = tokenizer.eos_token
    assert generate_answers(tiny_model, tokenizer, prompts, max_new_tokens=8) == without


def test_a_prompt_that_holds_the_pad_id_keeps_it_visible(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    """Without a pad token the end of turn pads; inside a prompt it is a real token all the same."""
    with_turn_end = [*prompts[0], tiny_tokenizer.eos_token_id, *prompts[2]]
    together = generate_answers(
        tiny_model, tiny_tokenizer, [with_turn_end, prompts[1]], max_new_tokens=8
    )
    alone = generate_answers(tiny_model, tiny_tokenizer, [with_turn_end], max_new_tokens=8)
    assert together[0] == alone[0]


def test_sampling_settings_of_the_model_are_ignored_in_silence(
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=8)
    settings = tiny_model.generation_config
    settings.do_sample, settings.temperature, settings.top_p, settings.top_k = True, 9.0, 0.5, 3
    settings.repetition_penalty, settings.max_length = 1.5, 7
    settings.suppress_tokens = list(range(3, 200))
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        found = generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=8)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert found == wanted
    assert caplog.text == ""
    assert tiny_model.generation_config is settings
    assert (settings.do_sample, settings.temperature, settings.max_length) == (True, 9.0, 7)


# peft 0.19 still reads the old name
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_peft_model_generates_and_keeps_its_settings(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    """A fresh adapter changes nothing (its second factor is zero), so the replies are the same."""
    peft = pytest.importorskip("peft")
    wanted = generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=6)
    settings = tiny_model.generation_config
    settings.max_length = 7
    wrapped = peft.get_peft_model(tiny_model, peft.LoraConfig(target_modules=["q_proj"]))
    assert generate_answers(wrapped, tiny_tokenizer, prompts, max_new_tokens=6) == wanted
    assert wrapped.get_base_model().generation_config is settings
    assert wrapped.training


def test_mode_of_every_module_is_restored(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    tiny_model.train()
    tiny_model.get_input_embeddings().eval()
    generate_answers(tiny_model, tiny_tokenizer, prompts[:1], max_new_tokens=2)
    assert tiny_model.training
    assert not tiny_model.get_input_embeddings().training


class _Counter:
    """Counts forward passes of a model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.passes = 0
        model.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.passes += 1


def test_stops_at_every_stop_token_and_when_all_rows_have(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    """Every token made a stop token: each reply ends at once, after one or two passes."""
    tiny_model.generation_config.eos_token_id = list(range(len(tiny_tokenizer)))
    counter = _Counter(tiny_model)
    assert generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=40) == [""] * 5
    assert counter.passes <= 2


def test_stop_ids_come_from_three_places(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The tokenizer ends texts with 0 here, the model's file says 7, the template writes 2."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    tiny_model.generation_config.eos_token_id = 7
    assert stop_ids(tiny_model, tokenizer) == [0, 2, 7]
    tokenizer.chat_template = None
    tiny_model.generation_config.eos_token_id = None
    assert stop_ids(tiny_model, tokenizer) == [0]


def test_left_padding_by_lengths() -> None:
    ids, mask = pad_left([[5, 0], [7, 8, 9]], pad_id=0)
    assert ids.tolist() == [[0, 5, 0], [7, 8, 9]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]


def test_progress_counts_prompts(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    seen: list[int] = []
    generate_answers(
        tiny_model,
        tiny_tokenizer,
        prompts,
        max_new_tokens=1,
        batch_size=2,
        progress=seen.append,
    )
    assert seen == [2, 4, 5]
    assert generate_answers(tiny_model, tiny_tokenizer, []) == []


@pytest.mark.parametrize(
    ("prompt", "max_new_tokens", "batch_size", "message"),
    [
        ([], 4, 4, "prompts: .* found none in prompt 0"),
        ([1], 0, 4, "`max_new_tokens`.*at least 1.*Found 0"),
        ([1], 4, 0, "`batch_size`.*at least 1.*Found 0"),
    ],
)
def test_bad_input(
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    prompt: list[int],
    max_new_tokens: int,
    batch_size: int,
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        generate_answers(
            tiny_model,
            tiny_tokenizer,
            [prompt],
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
        )


def test_hidden_tokens_of_a_prompt_are_masked(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """To hide a token is to take it out, with positions counted without it."""
    tiny_model.eval()
    text = "who wrote it?"
    ids = tiny_tokenizer(text)["input_ids"]
    hidden = ids[4]
    without = [token for token in ids if token != hidden]
    settings = {"max_new_tokens": 8}
    wanted = generate_replies(tiny_model, tiny_tokenizer, [without], **settings)
    assert (
        generate_replies(tiny_model, tiny_tokenizer, [ids], hidden_id=hidden, **settings) == wanted
    )
    assert generate_replies(tiny_model, tiny_tokenizer, [ids], **settings) != wanted


def test_logits_that_are_no_numbers(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    with torch.no_grad():
        tiny_model.model.norm.weight[0] = torch.nan
    with pytest.raises(InputError, match=r"expected finite logits, found NaN"):
        generate_answers(tiny_model, tiny_tokenizer, prompts)
