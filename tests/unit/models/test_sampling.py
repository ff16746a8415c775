"""Sampling: the right distribution, and replies that depend on nothing but prompt and seed."""

from __future__ import annotations

import random

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.errors import InputError
from lit_unlearn.models.generation import generate_answers, generate_replies, stop_ids
from lit_unlearn.models.sampling import Sampling, nucleus, sample_tokens

TEXTS = ("hello", "a much longer prompt than the others", "b", "numbers 1 2 3", "hello there")
LOGITS = torch.tensor([[0.2, 0.5, 0.3]]).log() + 4


@pytest.fixture
def prompts(tiny_tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return [tiny_tokenizer(text)["input_ids"] for text in TEXTS]


# -------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.01, [0.0, 0.5, 0.0]),
        (0.49, [0.0, 0.5, 0.0]),
        (0.51, [0.0, 0.5, 0.3]),
        (0.79, [0.0, 0.5, 0.3]),
        (0.81, [0.2, 0.5, 0.3]),
        (1.0, [0.2, 0.5, 0.3]),
    ],
)
def test_nucleus_worked(top_p: float, kept: list[float]) -> None:
    """The most probable first, until their mass reaches top_p; the one that crosses it stays."""
    assert_close(nucleus(LOGITS, 1.0, top_p), torch.tensor([kept]))


def test_temperature_worked() -> None:
    """At temperature 1/2 the probabilities are squared: .04, .25, .09 of .38."""
    wanted = torch.tensor([[0.04, 0.25, 0.09]]) / 0.38
    assert_close(nucleus(LOGITS, 0.5, 1.0), wanted)


@pytest.mark.parametrize(
    ("uniform", "token"),
    [(0.0, 1), (0.49, 1), (0.51, 2), (0.99, 2), (1.0, 2)],
)
def test_sample_tokens_worked(uniform: float, token: int) -> None:
    """Masses 0, .3, .3, 0 (not 1 in all): never a token of mass 0, not even at the ends."""
    masses = torch.tensor([[0.0, 0.3, 0.3, 0.0]])
    assert sample_tokens(masses, torch.tensor([uniform])).tolist() == [token]


def test_evenly_spread_uniforms_give_the_distribution() -> None:
    """Of 1000 evenly spread numbers each token gets its share, give or take one at each end."""
    masses = torch.rand(1, 20)
    uniforms = (torch.arange(1000) + 0.5) / 1000
    counts = sample_tokens(masses.expand(1000, 20), uniforms).bincount(minlength=20)
    assert_close(counts.double(), 1000 * (masses[0] / masses.sum()).double(), rtol=0, atol=2)


# ---------------------------------------------------------------------------------------- replies


def written_out(
    model: PreTrainedModel, prompt: list[int], stream: random.Random, stops: list[int]
) -> list[int]:
    """Sampling at temperature 1.5, top_p 0.9: no cache, no padding, one token at a time, floats."""
    ids = list(prompt)
    for _ in range(9):
        probs = (model(input_ids=torch.tensor([ids])).logits[0, -1] / 1.5).softmax(-1).tolist()
        ordered = sorted(range(len(probs)), key=lambda token: -probs[token])
        kept: set[int] = set()
        for token in ordered:
            if sum(probs[k] for k in kept) < 0.9:
                kept.add(token)
        threshold = stream.random() * sum(probs[k] for k in kept)
        for token in sorted(kept):
            threshold -= probs[token]
            if threshold < 0:
                break
        if token in stops:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_equals_sampling_written_out(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    tiny_model.eval()
    sampling = Sampling(temperature=1.5, top_p=0.9, samples=2, seed=4)
    stops = stop_ids(tiny_model, tiny_tokenizer)
    with torch.no_grad():
        wanted = [
            tuple(
                tiny_tokenizer.decode(
                    written_out(tiny_model, prompt, sampling.stream(prompt, k), stops),
                    skip_special_tokens=True,
                ).strip()
                for k in range(2)
            )
            for prompt in prompts
        ]
    found = generate_replies(
        tiny_model, tiny_tokenizer, prompts, max_new_tokens=9, sampling=sampling
    )
    assert found == wanted
    assert all(first != second for first, second in found)


def test_every_reply_has_numbers_of_its_own() -> None:
    """Seed, sample and prompt each make others; the same three make the same."""
    streams = [
        Sampling(seed=seed).stream(prompt, sample)
        for seed in (0, 1)
        for sample in (0, 1)
        for prompt in ([5], [6], [5, 6])
    ]
    assert len({stream.random() for stream in streams}) == 12
    assert Sampling().stream([5], 1).random() == Sampling().stream((5,), 1).random()


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16])
def test_batch_size_order_and_global_seed_change_nothing(
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    batch_size: int,
) -> None:
    sampling = Sampling(samples=3)
    wanted = generate_replies(
        tiny_model, tiny_tokenizer, prompts, max_new_tokens=8, sampling=sampling, batch_size=4
    )
    torch.manual_seed(99)
    state = torch.get_rng_state()
    turned = generate_replies(
        tiny_model,
        tiny_tokenizer,
        prompts[::-1],
        max_new_tokens=8,
        sampling=sampling,
        batch_size=batch_size,
    )
    assert turned[::-1] == wanted
    assert torch.equal(torch.get_rng_state(), state)
    assert len({text for texts in wanted for text in texts}) == 15  # no two replies are the same


def test_another_seed_gives_other_replies_and_fewer_samples_the_first_ones(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> None:
    def replies(sampling: Sampling) -> list[tuple[str, ...]]:
        return generate_replies(
            tiny_model, tiny_tokenizer, prompts, max_new_tokens=8, sampling=sampling
        )

    three = replies(Sampling(samples=3))
    assert replies(Sampling(samples=1)) == [texts[:1] for texts in three]
    assert replies(Sampling(samples=3, seed=1)) != three


@pytest.mark.parametrize("sampling", [Sampling(top_p=1e-6), Sampling(temperature=1e-4)])
def test_limits_are_greedy(
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    sampling: Sampling,
) -> None:
    wanted = generate_answers(tiny_model, tiny_tokenizer, prompts, max_new_tokens=8)
    found = generate_replies(
        tiny_model, tiny_tokenizer, prompts, max_new_tokens=8, sampling=sampling
    )
    assert found == [(text,) for text in wanted]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "`temperature`.*above 0.*Found 0.0"),
        ({"top_p": 0.0}, "`top_p`.*above 0.*Found 0.0"),
        ({"top_p": 1.1}, "`top_p`.*at most 1.*Found 1.1"),
        ({"samples": 0}, "`samples`.*at least 1.*Found 0"),
    ],
)
def test_bad_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]
