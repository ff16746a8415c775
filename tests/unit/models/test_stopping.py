"""Texts at which a reply ends."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.errors import InputError
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.models.stopping import StopTexts, cut


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("one two three", (), "one two three"),
        ("one two three", ("four",), "one two three"),
        ("one two three", ("three", "two"), "one "),
        ("aaa", ("aa",), ""),
        ("a\n\nb\nc", ("\nc", "\n\n"), "a"),
    ],
)
def test_cut_at_the_first(text: str, stops: tuple[str, ...], left: str) -> None:
    assert cut(text, stops) == left


def test_rows_end_when_their_reply_holds_a_stop(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The prompt "stop" does not count; the stop may have come with the last token or before."""
    texts = ["stopabcde", "stopxstop", "stopstopy", "stopastqp"]
    ids = torch.tensor([tiny_tokenizer(text)["input_ids"] for text in texts])
    ended = StopTexts(tiny_tokenizer, ("stop", "zz"), prompt_length=4)(ids, None)
    assert ended.tolist() == [False, True, True, False]


@pytest.mark.parametrize("sampling", [None, Sampling(samples=2)])
def test_replies_are_cut_and_end_early(
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sampling: Sampling | None,
) -> None:
    """With a stop out of the middle of one reply: every reply is the uncut one up to it."""
    prompts = [tiny_tokenizer(text)["input_ids"] for text in ("hello", "numbers 1 2 3")]
    settings = {"max_new_tokens": 30, "sampling": sampling}
    whole = generate_replies(tiny_model, tiny_tokenizer, prompts, **settings)
    stop = whole[0][0][3:5]
    assert stop.strip() == stop != ""
    passes: list[object] = []
    tiny_model.register_forward_hook(lambda *_: passes.append(None))
    found = generate_replies(tiny_model, tiny_tokenizer, prompts[:1], stops=(stop,), **settings)
    assert found[0] == tuple(text.partition(stop)[0].strip() for text in whole[0])
    if sampling is None:
        assert len(passes) < 30
    both = generate_replies(tiny_model, tiny_tokenizer, prompts, stops=(stop,), **settings)
    assert both == [tuple(cut(text, (stop,)).strip() for text in texts) for texts in whole]


def test_an_empty_stop(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(InputError, match="stops: expected texts of at least one character"):
        generate_replies(tiny_model, tiny_tokenizer, [[5]], stops=("a", ""))
