"""Tests of `lit_unlearn.attacks.gcg` on the tiny model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch.nn.functional import one_hot
from torch.testing import assert_close
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.attacks.gcg import (
    Search,
    mean_losses,
    one_hot_gradient,
    printable_tokens,
    search_suffix,
    top_tokens,
)
from lit_unlearn.attacks.inputs import AttackRow, embedding_table, target_nll, virtual_tokens
from lit_unlearn.errors import InputError

ROWS = [AttackRow((1, 7), (9,), (4, 5)), AttackRow((8,), (9, 3, 2), (6,))]
START = (11, 12, 13)
SEARCH = Search(steps=6, width=12, top_k=20)


def anything(_: Sequence[int]) -> bool:
    return True


@pytest.fixture
def allowed(tiny_model: PreTrainedModel) -> torch.Tensor:
    return torch.arange(len(embedding_table(tiny_model))) >= 3


def test_one_hot_gradient_is_the_finite_difference(tiny_model: PreTrainedModel) -> None:
    """Central differences of the loss in single entries of the one-hot matrix, in float64, where
    the input vectors are that matrix times the embedding table.
    """
    model = tiny_model.double()  # type: ignore[no-untyped-call]
    gradient = one_hot_gradient(model, ROWS, START, batch_size=1)
    table = model.get_input_embeddings().weight.detach()
    matrix = one_hot(torch.tensor(START), len(table)).double()
    ids = [len(table) + i for i in range(3)]

    def loss(entries: torch.Tensor) -> float:
        with virtual_tokens(model, entries @ table), torch.no_grad():
            return float(target_nll(model, ROWS, [ids, ids]).mean())

    for position, token in [(0, 11), (1, 5), (2, 200), (0, 0)]:
        shift = torch.zeros_like(matrix)
        shift[position, token] = 1e-3
        slope = (loss(matrix + shift) - loss(matrix - shift)) / 2e-3
        assert float(gradient[position, token]) == pytest.approx(slope, rel=1e-2, abs=1e-4)


def test_top_tokens_worked() -> None:
    """Most negative first: token 2 (-5) is forbidden, so tokens 0 (-3) and 3 (-1) are left, and
    then token 1; asking for more than are allowed gives all that are.
    """
    gradient = torch.tensor([[-3.0, 4.0, -5.0, -1.0]])
    allowed = torch.tensor([True, True, False, True])
    assert top_tokens(gradient, allowed, 2).tolist() == [[0, 3]]
    assert top_tokens(gradient, allowed, 9).tolist() == [[0, 3, 1]]


def test_mean_losses_are_those_of_each_suffix(tiny_model: PreTrainedModel) -> None:
    suffixes = [START, (30, 31, 32)]
    found = mean_losses(tiny_model, ROWS, suffixes, batch_size=3)
    with torch.no_grad():
        wanted = [float(target_nll(tiny_model, ROWS, [s, s]).mean()) for s in suffixes]
    assert_close(found, wanted, atol=1e-5, rtol=0)
    assert mean_losses(tiny_model, ROWS, [], 3) == []


def test_the_loss_never_rises_and_is_that_of_the_suffix(
    tiny_model: PreTrainedModel, allowed: torch.Tensor
) -> None:
    found = search_suffix(tiny_model, ROWS, START, allowed, anything, SEARCH)
    assert len(found.losses) == SEARCH.steps + 1
    assert all(b <= a for a, b in zip(found.losses, found.losses[1:], strict=False))
    assert found.losses[-1] < found.losses[0]
    assert mean_losses(tiny_model, ROWS, [found.ids], 8) == pytest.approx([found.losses[-1]])
    assert allowed[list(found.ids)].all()


def test_a_wide_step_finds_the_best_single_exchange(
    tiny_model: PreTrainedModel, allowed: torch.Tensor
) -> None:
    """One position, all tokens proposed and (2000 draws of 256) drawn: the step must find what
    trying every token finds.
    """
    found = search_suffix(
        tiny_model, ROWS, (11,), allowed, anything, Search(1, 2000, 300), batch_size=512
    )
    every = mean_losses(tiny_model, ROWS, [(t,) for t in allowed.nonzero()[:, 0].tolist()], 512)
    assert found.losses[-1] == pytest.approx(min(every), abs=1e-5)


def test_only_what_survives_is_taken(tiny_model: PreTrainedModel, allowed: torch.Tensor) -> None:
    def even_last(ids: Sequence[int]) -> bool:
        return ids[-1] == 13 and ids[0] % 2 == 1

    found = search_suffix(tiny_model, ROWS, START, allowed, even_last, SEARCH)
    assert even_last(found.ids)
    stuck = search_suffix(tiny_model, ROWS, START, allowed, lambda ids: tuple(ids) == START, SEARCH)
    assert stuck.ids == START
    assert len(set(stuck.losses)) == 1


def test_the_seed_decides(tiny_model: PreTrainedModel, allowed: torch.Tensor) -> None:
    def ids(seed: int) -> tuple[int, ...]:
        search = Search(3, 4, 50, seed)
        return search_suffix(tiny_model, ROWS, START, allowed, anything, search).ids

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_printable_tokens(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Of 256 bytes the 95 from space to tilde; no special token, no row beyond the tokenizer."""
    allowed = printable_tokens(tiny_tokenizer, 300)
    texts = {tiny_tokenizer.decode([i]) for i in allowed.nonzero()[:, 0].tolist()}
    assert texts == {chr(code) for code in range(32, 127)}
    assert allowed.shape == (300,)


def test_bad_input(tiny_model: PreTrainedModel, allowed: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"Found 0 rows, 3 tokens"):
        search_suffix(tiny_model, [], START, allowed, anything, SEARCH)
    with pytest.raises(InputError, match=r"0 tokens of suffix"):
        search_suffix(tiny_model, ROWS, (), allowed, anything, SEARCH)
    with pytest.raises(InputError, match=r"0 allowed tokens"):
        search_suffix(tiny_model, ROWS, START, allowed & False, anything, SEARCH)
    with pytest.raises(InputError, match=r"`start` should be.*\[11, 12, 13\]"):
        search_suffix(tiny_model, ROWS, START, allowed, lambda _: False, SEARCH)
    with pytest.raises(InputError, match=r"`width`.*at least 1.*Found 0"):
        Search(1, 0)
