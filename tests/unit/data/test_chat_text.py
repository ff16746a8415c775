"""Prompts under settings of the chat template, and texts of rows that hold control tokens."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from lit_unlearn.data.control_tokens import example_texts, report_control_tokens
from lit_unlearn.data.encoding import Encoder, EncodingError
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.asking import ask
from lit_unlearn.evaluation.probes import Generation, Probe
from lit_unlearn.evaluation.subjects import subject_of
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.chat_template import Template

EXAMPLE = Example("set/1", (Turn("user", "Who?"),), "Ada.", "question_answer")
THINKING = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and loop.last %}"
    "<think></think>{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if not enable_thinking %}<think></think>"
    "{% endif %}{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def chat(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    made = copy.deepcopy(tokenizer)
    made.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    made.chat_template = template
    return made


def parts(encoder: Encoder, example: Example, **given: Any) -> tuple[str, str]:
    """Prompt and answer of the student as text."""
    row = encoder.encode(example, example.answer, **given)
    assert row is not None
    ids = list(row.student_ids)
    decode = encoder.tokenizer.decode
    return str(decode(ids[: row.student_start])), str(decode(ids[row.student_start :]))


def test_the_same_prompt_on_another_day(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = chat(tiny_tokenizer, "{{ strftime_now('%d %b %Y') }}" + ALTERNATING)
    before = parts(Encoder(dated), EXAMPLE)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls(2031, 1, 2)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    later = dated.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    assert str(later).startswith("02 Jan 2031")  # the clock of transformers is patched
    assert parts(Encoder(dated), EXAMPLE) == before
    assert before[0].startswith("26 Jul 2024[user]Who?")


def test_a_template_that_ignores_the_generation_prompt(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    ignoring = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
    encoder = Encoder(chat(tiny_tokenizer, ignoring))
    assert parts(encoder, EXAMPLE) == ("[user]Who?<|im_end|>[assistant]", "Ada.<|im_end|>")
    prompt = encoder.tokenizer.decode(encoder.prompt_ids(EXAMPLE.turns))
    assert prompt == "[user]Who?<|im_end|>[assistant]"  # replies are asked for in the same way


def test_a_system_prompt_for_rows_without_one(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tiny_tokenizer, template=Template(system="Be kind."))
    own = replace(EXAMPLE, turns=(Turn("system", "Be brief."), *EXAMPLE.turns))
    assert "system\nBe kind.<|im_end|>\n<|im_start|>user\nWho?" in parts(encoder, EXAMPLE)[0]
    assert "Be kind." not in parts(encoder, own)[0]
    folded = Encoder(chat(tiny_tokenizer, ALTERNATING), template=Template(system="Be kind."))
    assert parts(folded, EXAMPLE)[0].startswith("[user]Be kind.\n\nWho?")


@pytest.mark.parametrize("thinking", [False, True])
def test_an_answer_stands_behind_empty_thoughts(
    tiny_tokenizer: PreTrainedTokenizerFast, thinking: bool
) -> None:
    """In training the prompt is the same; a reply begins with thoughts only where they are on."""
    encoder = Encoder(chat(tiny_tokenizer, THINKING), template=Template(enable_thinking=thinking))
    prompt, answer = parts(encoder, EXAMPLE)
    assert (prompt, answer) == ("[user]Who?<|im_end|>[assistant]<think></think>", "Ada.<|im_end|>")
    assert parts(encoder, EXAMPLE, prefill="It is")[0] == prompt + "It is"
    asked = encoder.tokenizer.decode(encoder.prompt_ids(EXAMPLE.turns))
    assert asked == (prompt.removesuffix("<think></think>") if thinking else prompt)
    assert (encoder.thoughts is None) == (not thinking)


# ---------------------------------------------------------------------------------- refused rows

REFUSED = Example("two/0", (Turn("user", "Hi?"), Turn("user", "Still?")), "Yes.", "dialogue")


def test_a_row_that_the_template_refuses(
    tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = chat(tiny_tokenizer, ALTERNATING)
    message = r"'two/0' has turns that the chat template refuses .*roles must alternate.*on_bad_row"
    for use in (
        lambda encoder: encoder.encode(REFUSED, "Yes."),
        lambda encoder: encoder.accepted("forget", [EXAMPLE, REFUSED]),
    ):
        with pytest.raises(EncodingError, match=message):
            use(Encoder(tokenizer))
    for lenient in (Encoder(tokenizer, skip_refused=True), Encoder(tokenizer, on_problem="warn")):
        assert lenient.encode(REFUSED, "Yes.") is None
        with caplog.at_level(logging.WARNING):
            assert lenient.accepted("forget", [EXAMPLE, REFUSED]) == [EXAMPLE]
        assert "'forget': left out 1 rows; the first: Row 'two/0'" in caplog.text
        with pytest.raises(InputError, match=r"'forget' should keep rows.*two/0"):
            lenient.accepted("forget", [REFUSED])


def test_other_problems_are_errors_where_refused_rows_are_left_out(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(EncodingError, match="empty answer"):
        Encoder(tiny_tokenizer, skip_refused=True).encode(EXAMPLE, " ")


# ------------------------------------------------------------------------------- control tokens

SPECIAL = Example(
    "spec/0",
    (Turn("user", "What is <|im_end|> for, and <<|im_end|>?"),),
    "It ends a turn <|im_end|> and more.",
    "question_answer",
)


@pytest.mark.parametrize("plain", [False, True])
def test_text_of_a_row_is_never_a_control_token(
    tiny_tokenizer: PreTrainedTokenizerFast, plain: bool
) -> None:
    """The texts come out as they are, in ordinary tokens; the template's own tokens stay."""
    encoder, row = Encoder(tiny_tokenizer), replace(SPECIAL, plain=plain)
    encoded = encoder.encode(row, row.answer, prefill="<|im_start|>It")
    assert encoded is not None
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert encoded.student_ids.count(end) == (1 if plain else 2)
    assert encoded.student_ids[-1] == end
    text = tiny_tokenizer.decode(encoded.student_ids)
    for part in (row.question, row.answer, "<|im_start|>It "):
        assert part in text
    assert encoder.prompt_ids(row.turns, plain=plain).count(end) == (0 if plain else 1)


def test_thoughts_in_the_text_of_a_row_are_text(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = chat(tiny_tokenizer, THINKING)
    row = replace(EXAMPLE, answer="Yes </think> no.")
    encoded = Encoder(tokenizer).encode(row, row.answer)
    assert encoded is not None
    closing = tokenizer.convert_tokens_to_ids("</think>")
    assert encoded.student_ids.count(closing) == 1
    assert "Yes </think> no." in tokenizer.decode(encoded.student_ids)


def test_control_tokens_are_said_once_with_an_example(
    tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder(tiny_tokenizer)
    with caplog.at_level(logging.WARNING):
        find = encoder.control_token
        report_control_tokens("Objective 'a'", example_texts([EXAMPLE]), find)
        assert not caplog.records
        report_control_tokens("Objective 'a'", example_texts([EXAMPLE, SPECIAL, SPECIAL]), find)
    (record,) = caplog.records
    refused, pair = example_texts([EXAMPLE, replace(EXAMPLE, rejected=("<|im_end|>",))], ["<s>"])
    assert "<s>" in refused[1]
    assert find(pair[1]) == "<|im_end|>"
    assert record.getMessage().startswith(
        "Objective 'a': 2 rows hold the text of a control token, the first '<|im_end|>' in row "
        "'spec/0'."
    )


def test_an_evaluation_names_the_row_that_the_template_refuses(
    tiny_tokenizer: PreTrainedTokenizerFast, tiny_model: PreTrainedModel
) -> None:
    tokenizer = chat(tiny_tokenizer, ALTERNATING)
    subject = subject_of(tiny_model, tokenizer, "mine")
    probe = Probe("forget/two/0", "forget", REFUSED, REFUSED.turns)
    for asked in (
        replace(probe, candidates={"answer": "Yes."}),
        replace(probe, generation=Generation(max_new_tokens=1)),
    ):
        with pytest.raises(InputError, match=r"two/0' has turns that the chat template refuses"):
            ask(subject, [asked])
