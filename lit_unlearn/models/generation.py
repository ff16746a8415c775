"""Replies to many prompts in batches; batch size and order do not change them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.forward import evaluating
from lit_unlearn.models.prompt_reading import KeyValues, cache_arguments
from lit_unlearn.models.sampling import Sampler, Sampling
from lit_unlearn.models.stopping import StopTexts, check_stops, cut
from lit_unlearn.utils.chat_template import around_answer
from lit_unlearn.utils.thoughts import ThoughtLimit, Thoughts

__all__ = ["Observe", "generate_answers", "generate_replies", "pad_left", "stop_ids"]

Observe = Callable[[list[int], Tensor], None]
"""Callback for a batch: its prompts' indices, and the logits ``[R, V]`` of their first tokens."""


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 48,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
    thoughts: Thoughts | None = None,
) -> list[str]:
    """Return the model's greedy replies, one per prompt; see `generate_replies`."""
    replies = generate_replies(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
        thoughts=thoughts,
    )
    return [reply for (reply,) in replies]


def generate_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 48,
    sampling: Sampling | None = None,
    stops: Sequence[str] = (),
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
    hidden_id: int | None = None,
    thoughts: Thoughts | None = None,
    observe: Observe | None = None,
    read: Mapping[tuple[int, ...], KeyValues] | None = None,
) -> list[tuple[str, ...]]:
    """Return the model's replies, in the order of the prompts.

    Prompts of similar length share a batch, the longest first. If the model can read packed rows,
    common beginnings are read once. Otherwise prompts are padded on the left and masked by
    their lengths, since the pad id may be a real token. A reply ends at the tokenizer's end of
    text, at a stop token of the model's settings or at the chat template's end of turn. The model's
    sampling settings are ignored, and it runs in evaluation mode. The caller keeps the forward
    passes of a sharded model in step.

    Args:
        model: A causal language model, with or without adapters of peft.
        tokenizer: The model's tokenizer; a pad token is not needed.
        prompts: Token ids of each prompt, chat template and prefill included; none empty.
        max_new_tokens: Longest reply, in tokens.
        sampling: Settings of sampled replies; None for one greedy reply per prompt. The random
            numbers of a reply depend on seed, prompt and number of the sample only.
        stops: Texts before which a reply is cut.
        batch_size: Replies per batch; it does not change replies in float32.
        progress: Called after each batch with the number of replies made so far.
        hidden_id: Token id that is masked everywhere in a prompt.
        thoughts: Marks of the thoughts of a model that writes thoughts. They take at most half of
            `max_new_tokens`, and are not part of the reply.
        observe: Called once per batch.
        read: Keys and values, by prompt, that this model has computed already.

    Returns:
        The texts for each prompt, without the prompt, special tokens and outer white space.

    Raises:
        InputError: A prompt or a stop is empty, a count is below 1, or the model's logits are NaN.
    """
    check_number("max_new_tokens", max_new_tokens, 1)
    check_number("batch_size", batch_size, 1)
    if not all(map(len, prompts)):
        raise InputError(
            "prompts: expected at least one token each, found none in prompt "
            f"{[*map(len, prompts)].index(0)}; give it a begin-of-text token or leave it out"
        )
    check_stops(stops)
    ends = stop_ids(model, tokenizer)
    config = _greedy(tokenizer, ends, max_new_tokens)
    samples = 1 if sampling is None else sampling.samples
    jobs = [(index, sample) for index in range(len(prompts)) for sample in range(samples)]
    jobs.sort(key=lambda job: -len(prompts[job[0]]))
    replies = [[""] * samples for _ in prompts]
    with torch.no_grad(), evaluating(model), _only_settings(model, config):
        for start in range(0, len(jobs), batch_size):
            members = jobs[start : start + batch_size]
            rows = [prompts[index] for index, _ in members]
            ids, mask = (t.to(model.device) for t in pad_left(rows, config.pad_token_id))
            length = ids.shape[1]
            indices = [index for index, _ in members]
            processors = LogitsProcessorList([_LogitsCheck(indices, observe)])
            if thoughts is not None:
                thinking = [thoughts.follow(row) for row in rows]
                processors.append(
                    ThoughtLimit(thoughts, thinking, length, max_new_tokens // 2, ends)
                )
            if sampling is not None:
                streams = [sampling.stream(prompts[index], sample) for index, sample in members]
                processors.append(Sampler(sampling, streams))
            criteria = [StopTexts(tokenizer, stops, length)] if stops else []
            output = model.generate(  # type: ignore[operator]  # typed for a mixin
                input_ids=ids,
                attention_mask=mask if hidden_id is None else mask * (ids != hidden_id),
                generation_config=config,
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList(criteria),
                synced_gpus=False,
                **(cache_arguments(model, rows, max_new_tokens, read) if hidden_id is None else {}),
            )
            for (index, sample), tokens in zip(members, output[:, length:].tolist(), strict=True):
                kept = list(takewhile(lambda token: token not in ends, tokens))
                if thoughts is not None and thoughts.follow(prompts[index]):
                    kept = kept[max(0, thoughts.end(kept)) :]
                text = str(tokenizer.decode(kept, skip_special_tokens=True))
                replies[index][sample] = cut(text, stops).strip()
            if progress is not None:
                progress(start + len(members))
    return [tuple(texts) for texts in replies]


def _greedy(
    tokenizer: PreTrainedTokenizerBase, ends: list[int], max_new_tokens: int
) -> GenerationConfig:
    pad = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else (*ends, 0)[0]
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=ends or None,
        pad_token_id=pad,
    )


class _LogitsCheck(LogitsProcessor):
    """Logits processor that refuses NaN, which greedy search would ignore."""

    def __init__(self, members: list[int], observe: Observe | None) -> None:
        self._members, self._observe = members, observe

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if scores.isnan().any():
            raise InputError(
                "Replies: expected finite logits, found NaN; the weights are broken, or they "
                "overflow in float16 (use float32 or bfloat16)"
            )
        if self._observe is not None:
            self._observe(self._members, scores)
            self._observe = None
        return scores


def pad_left(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad token ids on the left; return ids and mask (1 on tokens), both ``[B, T]`` int64."""
    rows = [torch.tensor(prompt, dtype=torch.int64) for prompt in prompts]
    ids = pad_sequence(rows, True, pad_id, "left")
    return ids, pad_sequence([torch.ones_like(row) for row in rows], True, 0, "left")


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids that end a reply, ascending, each once.

    These are the tokenizer's end of text, those of the model's generation settings, and the token
    with which the chat template closes the assistant's turn.
    """
    found: set[int] = set()
    settings = getattr(model, "generation_config", None)
    for value in (tokenizer.eos_token_id, getattr(settings, "eos_token_id", None)):
        if value is not None:
            found.update(value if isinstance(value, list | tuple) else [value])
    return sorted(found.union(_end_of_turn(tokenizer)))


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the id of the added token that closes an assistant's turn in the template, if any."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    _, end = around_answer(tokenizer)
    known = cast("dict[str, int]", tokenizer.get_added_vocab())
    closing = sorted((token for token in known if token and end.endswith(token)), key=len)
    return [known[token] for token in closing[-1:]]


@contextmanager
def _only_settings(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Replace a model's generation settings within the context.

    Otherwise ``generate`` would take settings that a call does not name, such as a repetition
    penalty, from the model's files. A peft model and its base model have settings each.
    """
    owners: list[Any] = [m for m in {model, base_model(model)} if "generation_config" in vars(m)]
    own = [owner.generation_config for owner in owners]
    try:
        for owner in owners:
            owner.generation_config = settings
        yield
    finally:
        for owner, before in zip(owners, own, strict=True):
            owner.generation_config = before
