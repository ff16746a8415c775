"""Tests of `lit_unlearn.attacks.relearning` on the tiny model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.attacks.relearning import FineTuning, Relearning
from lit_unlearn.data.collation import collate
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.loading import LoRA
from lit_unlearn.objectives.losses import cross_entropy
from lit_unlearn.types import EncodedExample, Example, Turn

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

FULL = FineTuning(learning_rate=1e-3, batch_size=2)
ADAPTERS = FineTuning(learning_rate=1e-2, batch_size=2, lora=LoRA(rank=2, alpha=4.0))
UPPER = FineTuning(learning_rate=1e-3, batch_size=2, upper_blocks=1)
BOTH = pytest.mark.parametrize("settings", [FULL, ADAPTERS, UPPER], ids=["full", "lora", "upper"])


@pytest.fixture
def rows(tiny_tokenizer: PreTrainedTokenizerFast) -> list[EncodedExample]:
    encoder = Encoder(tiny_tokenizer)
    texts = [("a?", "yes"), ("b?", "no no"), ("c?", "x")]
    examples = [Example(q, (Turn("user", q),), a, "question_answer") for q, a in texts]
    encoded = [encoder.encode(example, example.answer) for example in examples]
    return [row for row in encoded if row is not None]


def nll(model: nn.Module, rows: list[EncodedExample]) -> float:
    batch = collate([[row] for row in rows], 0)
    assert batch.target_ids is not None
    return float(cross_entropy(FrozenReader(model).logits(batch.student), batch.target_ids).mean())


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@BOTH
def test_lowers_the_nll_of_its_rows_and_leaves_the_subject_alone(
    tiny_model: PreTrainedModel, rows: list[EncodedExample], settings: FineTuning
) -> None:
    before = state(tiny_model)
    relearning = Relearning(tiny_model, rows, settings)
    values = [nll(relearning.at(step), rows) for step in (0, 3, 8)]
    assert values[0] == pytest.approx(nll(tiny_model, rows), abs=1e-5)
    assert values[0] > values[1] > values[2]
    assert same(state(tiny_model), before)
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_a_learning_rate_of_zero_changes_nothing(
    tiny_model: PreTrainedModel, rows: list[EncodedExample]
) -> None:
    changed = Relearning(tiny_model, rows, FineTuning(learning_rate=0.0)).at(3)
    assert same(state(changed), state(tiny_model))


@BOTH
def test_a_state_does_not_depend_on_the_way_to_it(
    tiny_model: PreTrainedModel, rows: list[EncodedExample], settings: FineTuning
) -> None:
    """Step 6 directly, by way of step 3, and after having been further already."""
    relearning = Relearning(tiny_model, rows, settings)
    direct = state(Relearning(tiny_model, rows, settings).at(6))
    half = state(relearning.at(3))
    assert same(state(relearning.at(6)), direct)
    assert same(state(relearning.at(3)), half)
    assert not same(half, direct)


def test_equals_a_loop_written_out(tiny_model: PreTrainedModel, rows: list[EncodedExample]) -> None:
    """One row, so that every batch is that row: AdamW by its formulas (Loshchilov and Hutter 2019,
    arXiv 1711.05101, Algorithm 2, without decay), two steps.
    """
    settings = FineTuning(learning_rate=1e-2, batch_size=1)
    found = Relearning(tiny_model, rows[:1], settings).at(2).state_dict()
    batch = collate([[rows[0]]], 0)
    assert batch.target_ids is not None
    parameters = dict(tiny_model.named_parameters())
    first = {n: torch.zeros_like(p) for n, p in parameters.items()}
    second = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for step in (1, 2):
        output = tiny_model(input_ids=batch.student.input_ids).logits
        chosen = output[batch.student.rows, batch.student.columns]
        loss = -chosen.log_softmax(-1)[range(len(chosen)), batch.target_ids].mean()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                mean, spread = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                parameter -= 1e-2 * mean / (spread.sqrt() + 1e-8)
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.detach(), atol=2e-5, rtol=1e-4)


def test_the_seed_decides_the_order(
    tiny_model: PreTrainedModel, rows: list[EncodedExample]
) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return state(Relearning(tiny_model, rows, FineTuning(1e-3, 1, seed=seed)).at(2))

    assert same(weights(1), weights(1))
    assert not same(weights(1), weights(2))


def test_a_bfloat16_model_is_relearned_in_float32(
    tiny_model: PreTrainedModel, rows: list[EncodedExample]
) -> None:
    """A step of 1e-5 is below bfloat16's resolution at most weights, yet must not be lost."""
    half = tiny_model.bfloat16()  # type: ignore[no-untyped-call]
    changed = Relearning(half, rows, FineTuning(learning_rate=1e-5)).at(1)
    assert next(half.parameters()).dtype == torch.bfloat16
    moved = [
        float((new - old.float()).detach().abs().max())
        for new, old in zip(changed.parameters(), half.parameters(), strict=True)
    ]
    assert min(moved) == pytest.approx(1e-5, rel=0.1)


def test_bad_input(tiny_model: PreTrainedModel, rows: list[EncodedExample]) -> None:
    with pytest.raises(InputError, match="at least one row to relearn from"):
        Relearning(tiny_model, [], FULL)
    with pytest.raises(InputError, match=r"`steps` should be at least 0. Found -1"):
        Relearning(tiny_model, rows, FULL).at(-1)
    with pytest.raises(InputError, match=r"`batch_size` should be at least 1. Found 0"):
        FineTuning(1e-5, 0)
    with pytest.raises(InputError, match="`learning_rate` should be at least 0"):
        FineTuning(-1.0)
    with pytest.raises(InputError, match="`upper_blocks` should be at most 2"):
        Relearning(tiny_model, rows, FineTuning(upper_blocks=9)).at(1)
    with pytest.raises(InputError, match=r"`lora` and `upper_blocks`.*exclude each other"):
        FineTuning(lora=LoRA(), upper_blocks=1)


def test_of_upper_blocks_only_these_are_trained_and_copied(
    tiny_model: PreTrainedModel, rows: list[EncodedExample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest shares the subject's memory. Steps that start above the trunk equal whole ones; the
    trunk is read once for each row, also by a second fine-tuning.
    """
    flags = [parameter.requires_grad for parameter in tiny_model.parameters()]
    known: dict[tuple[int, ...], Tensor] = {}
    relearning = Relearning(tiny_model, rows, UPPER, known)
    changed = dict(relearning.at(4).named_parameters())
    for name, old in tiny_model.named_parameters():
        below = name.startswith(("model.embed", "model.layers.0."))
        assert (changed[name].data_ptr() == old.data_ptr()) == below, name
        assert torch.equal(changed[name], old) == below, name
    assert [parameter.requires_grad for parameter in tiny_model.parameters()] == flags
    assert len(known) == len(rows)
    found = state(relearning.at(4))

    def refuse(*_: object) -> None:
        raise AssertionError("the trunk was read again")

    with monkeypatch.context() as patch:
        patch.setattr("lit_unlearn.attacks.copies.trunk_outputs", refuse)
        assert same(state(Relearning(tiny_model, rows, UPPER, known).at(4)), found)
    monkeypatch.setattr("lit_unlearn.attacks.relearning.trunk_height", lambda _: (0, ""))
    whole = state(Relearning(tiny_model, rows, UPPER).at(4))
    for name, value in whole.items():
        torch.testing.assert_close(value, found[name], atol=1e-4, rtol=1e-3)


def test_rows_without_answers(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    example = Example("a", (Turn("user", "a?"),), "", "question_answer")
    row = Encoder(tiny_tokenizer).encode(example, None)
    assert row is not None
    with pytest.raises(InputError, match="should have answers"):
        Relearning(tiny_model, [row], FULL).at(1)
