"""Forcing: the shared prompt gives what one forward pass per candidate gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lit_unlearn.data.encoding import Encoder, EncodingError
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Forced, Probe
from lit_unlearn.evaluation.teacher_forced import force
from lit_unlearn.models.packing import packable
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.types import Example, Turn


def probe(
    name: str,
    question: str,
    *texts: str,
    plain: bool = False,
    prefill: str = "",
    system: str = "",
) -> Probe:
    turns = (
        (Turn("system", system), Turn("user", question)) if system else (Turn("user", question),)
    )
    return Probe(
        probe_id=f"forget/{name}",
        group="forget",
        example=Example(f"row/{name}", (Turn("user", "not read"),), "not read", "passage"),
        turns=turns,
        plain=plain,
        prefill=prefill,
        candidates={f"c/{k}": text for k, text in enumerate(texts)},
    )


PROBES = [
    probe("many", "who?", "it was her", "him", "a much longer answer than the others", "x"),
    probe("long", "a question that is longer than the one before", "yes", "no, I think not"),
    probe("single", "where?", "over there"),
    probe("prefilled", "when?", "in May", "in 1856", prefill="It was"),
    probe("system", "why?", "because", "no idea", "so", system="Be brief."),
    probe("plain", "Once upon a", " time", " mattress, and so on", plain=True),
    probe("empty prompt", "", "A text on its own", plain=True),
    probe("empty prompts", "", "One", "Another one", plain=True),
    probe("nothing", "asked for nothing"),
]


@pytest.fixture
def encoder(tiny_tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tiny_tokenizer, 512, "warn")


def naive(model: nn.Module, encoder: Encoder, probe: Probe, text: str) -> Forced:
    """One forward pass over `Encoder.encode`, and the definitions in float64."""
    row = replace(probe.example, turns=probe.turns, plain=probe.plain)
    encoded = encoder.encode(row, text, prefill=probe.prefill)
    assert encoded is not None
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([encoded.student_ids])).logits[0].double()
    found: list[tuple[float, bool, float, float]] = []
    for position in range(encoded.student_start, len(encoded.student_ids)):
        log_probs = logits[position - 1].log_softmax(-1)
        token, probs = encoded.student_ids[position], log_probs.exp()
        mean = float((probs * log_probs).sum())
        square = float((probs * log_probs**2).sum())
        hit = int(log_probs.argmax()) == token
        found.append((float(log_probs[token]), hit, mean, math.sqrt(square - mean**2)))
    return Forced(*zip(*found, strict=True))


def assert_same(found: Mapping[str, Forced], wanted: Mapping[str, Forced]) -> None:
    assert list(found) == list(wanted)
    for name, forced in found.items():
        assert forced.hits == wanted[name].hits
        for mine, theirs in zip(astuple(forced), astuple(wanted[name]), strict=True):
            assert_close(torch.tensor(mine), torch.tensor(theirs), rtol=0, atol=1e-5)


def assert_equals_naive(
    model: nn.Module, encoder: Encoder, probes: Sequence[Probe], batch_size: int
) -> None:
    found = force(model, encoder, probes, batch_size)
    assert len(found) == len(probes)
    for asked, forced in zip(probes, found, strict=True):
        texts = asked.candidates.items()
        assert_same(forced, {name: naive(model, encoder, asked, text) for name, text in texts})


# ----------------------------------------------------------------------------------- equals naive


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("backwards", [False, True])
def test_equals_one_pass_per_candidate(
    tiny_model: PreTrainedModel, encoder: Encoder, batch_size: int, backwards: bool
) -> None:
    """Whatever shares a batch, in whatever order; batch size 3 splits four candidates."""
    tiny_model.eval()
    probes = PROBES[::-1] if backwards else PROBES
    assert_equals_naive(tiny_model, encoder, probes, batch_size)


def test_pad_id_and_neighbours_change_nothing(
    tiny_model: PreTrainedModel, encoder: Encoder
) -> None:
    """A row alone, and in a batch whose long rows pad it on both sides."""
    alone = force(tiny_model, encoder, [PROBES[0]])
    longest = probe("longest", "w" * 80, "v" * 90, "u")
    together = force(tiny_model, encoder, [longest, PROBES[0]])
    assert_same(together[1], alone[0])


def make(config: PreTrainedConfig) -> nn.Module:
    torch.manual_seed(3)
    model: nn.Module = AutoModelForCausalLM.from_config(config)
    return model.eval()


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("config", "packs"),
    [
        (MistralConfig(**SMALL, **HEADS, vocab_size=259, sliding_window=None), True),
        (MistralConfig(**SMALL, **HEADS, vocab_size=259, sliding_window=6), False),
        (GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=259), True),
        (MambaConfig(**SMALL, vocab_size=259, state_size=4), False),
    ],
    ids=["full", "sliding", "absolute positions", "state space"],
)
def test_other_architectures(encoder: Encoder, config: PreTrainedConfig, packs: bool) -> None:
    """Rows are packed where they can be; the figures are right in any case."""
    model = make(config)
    assert packable(model, 100) == packs
    assert_equals_naive(model, encoder, PROBES, 8)


# peft 0.19 still reads the old name
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_peft_model_is_packed(tiny_model: PreTrainedModel, encoder: Encoder) -> None:
    """A fresh adapter changes nothing."""
    peft = pytest.importorskip("peft")
    wanted = force(tiny_model, encoder, PROBES)
    wrapped = peft.get_peft_model(tiny_model, peft.LoraConfig(target_modules=["q_proj"]))
    assert packable(wrapped, 100)
    for found, other in zip(force(wrapped, encoder, PROBES), wanted, strict=True):
        assert_same(found, other)


def test_bfloat16_is_finite_and_close(encoder: Encoder) -> None:
    """Its figures come from its own logits in float32: means of a distribution, never above 0."""
    low = make_tiny_model().bfloat16()
    whole = force(make_tiny_model(), encoder, PROBES)
    for found, wanted in zip(force(low, encoder, PROBES), whole, strict=True):
        for name, forced in found.items():
            assert torch.tensor(astuple(forced)).isfinite().all()
            assert max(forced.means) < 0 < min(forced.deviations)
            assert_close(
                torch.tensor(forced.means), torch.tensor(wanted[name].means), rtol=0.1, atol=0.1
            )


# ------------------------------------------------------------------------------------------- cost


class Meter:
    """Counts forward passes, tokens read, and rows that reach the output head."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.passes = self.read = self.predicted = 0
        model.register_forward_pre_hook(self._forward, with_kwargs=True)
        model.get_output_embeddings().register_forward_hook(self._head)

    def _forward(self, _: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        self.passes += 1
        self.read += kwargs["input_ids"].numel()

    def _head(self, _: object, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.predicted += output.numel() // output.shape[-1]


def test_a_prompt_is_read_once_and_the_head_runs_at_answers_only(
    tiny_model: PreTrainedModel, encoder: Encoder
) -> None:
    """Candidates of 3 + 1, 3 + 1 and 1 + 1 tokens (end of turn) after one prompt.

    The prompt is read once, and of the candidates all tokens but the last, which predicts nothing;
    each of the 4 + 4 + 2 tokens is predicted.
    """
    meter = Meter(tiny_model)
    asked = probe("three", "who?", "abc", "xyz", "q")
    force(tiny_model, encoder, [asked])
    prompt = len(encoder.prompt_ids(asked.turns))
    assert meter.passes == 1
    assert meter.read == prompt + 3 + 3 + 1
    assert meter.predicted == 4 + 4 + 2


def test_a_mode_is_kept_and_dropout_is_off(encoder: Encoder) -> None:
    """The same twice in training mode with dropout, and still in training mode."""
    model = make(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=259, resid_pdrop=0.5))
    model.train()
    first, second = (force(model, encoder, PROBES[:2]) for _ in range(2))
    assert first == second
    assert all(module.training for module in model.modules())


# --------------------------------------------------------------------------------------- encoding


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Letters are tokens, and so is the pair "ab"."""
    letters = ["<end>", "a", "b", "c", "ab"]
    core = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(letters)}, merges=[("a", "b")]))
    core.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    core.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


def test_a_pair_that_merges_over_the_boundary(tiny_model: PreTrainedModel) -> None:
    """After "ca", "bc" alone is b, c; together with it "ab" would be one token.

    Which ids are right is for the encoder's `on_problem`; the figures are those of its ids.
    """
    tiny_model.eval()
    asked = probe("boundary", "ca", "bc", "cc", plain=True)
    encoder = Encoder(merging_tokenizer(), 64, "warn")
    assert_equals_naive(tiny_model, encoder, [asked], 4)
    assert encoder.problems["boundary"] > 0
    assert len(force(tiny_model, encoder, [asked])[0]["c/0"].log_probs) == 3  # b, c, end
    with pytest.raises(EncodingError, match="row/boundary"):
        force(tiny_model, Encoder(merging_tokenizer(), 64, "error"), [asked])


@pytest.mark.parametrize("on_problem", ["warn", "error"])
def test_length_at_the_limit_and_beyond(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, on_problem: str
) -> None:
    """A candidate is never cut: 4 tokens and the end of turn fit, 5 do not."""
    prompt = len(Encoder(tiny_tokenizer).prompt_ids((Turn("user", "who?"),)))
    encoder = Encoder(tiny_tokenizer, prompt + 5, on_problem)  # type: ignore[arg-type]
    (found,) = force(tiny_model, encoder, [probe("fits", "who?", "four")])
    assert len(found["c/0"].log_probs) == 5
    message = rf"Row 'forget/over', candidate 'c/1' .* `max_length` = {prompt + 5} tokens"
    with pytest.raises(InputError, match=message):
        force(tiny_model, encoder, [probe("over", "who?", "four", "fiver")])


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_candidate(tiny_model: PreTrainedModel, encoder: Encoder, text: str) -> None:
    with pytest.raises(InputError, match=r"Row 'forget/none', candidate 'c/0' should not be empty"):
        force(tiny_model, encoder, [probe("none", "who?", text)])


def test_no_prompt_at_all(tiny_model: PreTrainedModel) -> None:
    """A tokenizer without begin and end of text cannot begin an empty prompt."""
    tokenizer = merging_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match=r"Row 'forget/bare', .* prompt of at least one token"):
        force(tiny_model, Encoder(tokenizer, 64, "warn"), [probe("bare", "", "ab", plain=True)])


@pytest.mark.parametrize("probes", [PROBES[:1], PROBES[2:3]], ids=["shared", "alone"])
def test_broken_weights(tiny_model: PreTrainedModel, encoder: Encoder, probes: list[Probe]) -> None:
    tiny_model.get_input_embeddings().weight.data[5] = float("nan")
    with pytest.raises(InputError, match=f"Row '{probes[0].probe_id}', candidate 'c/0' .* NaN"):
        force(tiny_model, encoder, probes)


def test_bad_batch_size(tiny_model: PreTrainedModel, encoder: Encoder) -> None:
    with pytest.raises(InputError, match="`batch_size` should be at least 1"):
        force(tiny_model, encoder, PROBES, 0)


# ------------------------------------------------------------------------------- the pad = eos mask


def test_hidden_tokens_are_not_attended_to(tiny_model: PreTrainedModel, encoder: Encoder) -> None:
    """As open-unlearning has it: positions as they are, the ends of turns masked out."""
    model, hidden = tiny_model.eval(), encoder.tokenizer.eos_token_id
    assert isinstance(hidden, int)
    asked = PROBES[0]
    row = replace(asked.example, turns=asked.turns)
    (found,) = force(model, encoder, [asked], 3, hidden_id=hidden)
    for name, text in asked.candidates.items():
        encoded = encoder.encode(row, text)
        assert encoded is not None
        ids = torch.tensor([encoded.student_ids])
        seen = (ids != hidden).long()
        assert seen[0, : encoded.student_start].min() == 0  # the user's turn ends before
        logits = model(input_ids=ids, attention_mask=seen).logits[0].detach()
        for k in range(len(encoded.student_ids) - encoded.student_start):
            position = encoded.student_start + k
            wanted = logits[position - 1].log_softmax(-1)[ids[0, position]]
            assert_close(found[name].log_probs[k], float(wanted), rtol=0, atol=1e-5)
    (usual,) = force(model, encoder, [asked], 3)
    assert abs(usual["c/0"].log_probs[0] - found["c/0"].log_probs[0]) > 1e-4
    never = 17  # a byte that stands nowhere in the row
    assert never not in encoded.student_ids
    (same,) = force(model, encoder, [asked], 3, hidden_id=never)
    assert_same(same, usual)
