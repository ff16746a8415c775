"""The end of an assistant's turn, by templates of every kind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.models.tiny import tiny_tokenizer as make_tiny_tokenizer
from lit_unlearn.types import Turn
from lit_unlearn.utils.chat_template import (
    MARK,
    RECORD,
    Template,
    around_answer,
    control_tokens,
    recorded_template,
    render,
    template_key,
)

_TURNS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"


def templated(end: str, lead: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer whose template writes `lead` before and `end` after each turn."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("</turn>", special=False)])
    begin = "{% if add_generation_prompt %}[assistant]{% endif %}"
    turns = _TURNS.replace("{{ m['content']", f"{lead}{{{{ m['content']")
    tokenizer.chat_template = f"{turns}{end}{{% endfor %}}{begin}"
    return tokenizer


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("<|im_end|>\n", "<|im_end|>"),
        (" <|im_end|>", " <|im_end|>"),
        ("</turn><|im_end|>", "</turn><|im_end|>"),  # up to the first special token
        ("</turn>\n", "</turn>"),  # an added token that is not special
        ("\n", "<|im_end|>"),  # no token: the end of the sequence
    ],
)
def test_end_of_turn(end: str, expected: str) -> None:
    assert around_answer(templated(end)) == ("", expected)


def test_white_space_before_an_answer() -> None:
    assert around_answer(templated("<|im_end|>", lead=" ")) == (" ", "<|im_end|>")


def test_without_a_template() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = None
    messages = [{"role": "user", "content": MARK}]
    assert render(tokenizer, messages, add_generation_prompt=True) == f"Question: {MARK}\nAnswer:"
    assert around_answer(tokenizer) == (" ", "<|im_end|>")


def test_a_template_that_fails() -> None:
    tokenizer = templated("{{ raise_exception('no such role') }}")
    with pytest.raises(InputError, match=r"chat template should render .*no such role"):
        around_answer(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{% endfor %}[assistant]"
    with pytest.raises(InputError, match=r"Found: a prompt without the user's text"):
        around_answer(tokenizer)


def test_a_template_that_needs_a_system_prompt() -> None:
    needy = "{{ '' if messages[0].role == 'system' else raise_exception('no system prompt') }}"
    tokenizer = templated(f"<|im_end|>{needy}")
    with pytest.raises(InputError, match=r"no system prompt; set what it needs in `data.template`"):
        around_answer(tokenizer)
    assert around_answer(tokenizer, Template(system="Be.")) == ("", "<|im_end|>")
    encoder = Encoder(tokenizer, template=Template(system="Be."))
    assert encoder.prompt_ids([Turn("user", "Hi")])


# ----------------------------------------------------------------------------------------- settings

_HEAD = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
)
_REST = (
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
)
_OFF = "{% if enable_thinking is defined and not enable_thinking %}"
_EMPTY = "<think>\n\n</think>\n\n"
QWEN3 = f"{_HEAD}{_EMPTY}{{% endif %}}{_REST}{_OFF}{_EMPTY}{{% endif %}}{{% endif %}}"
ALWAYS = f"{_HEAD}{_EMPTY}{{% endif %}}{_REST}<think>\n{{% endif %}}"  # Qwen3-Thinking-2507
HIDDEN = (
    f"{_HEAD}{{% endif %}}{_REST}<think>\n{{% endif %}}"  # DeepSeek-R1: history without thoughts
)
MAGISTRAL = HIDDEN.replace("<think>", "[THINK]")


def chat(template: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with another chat template."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "thinking", "lead"),
    [
        (QWEN3, False, ""),
        (QWEN3, True, _EMPTY),
        (ALWAYS, False, "\n</think>\n\n"),
        (HIDDEN, False, "\n</think>\n\n"),
        (MAGISTRAL, False, "\n[/THINK]\n\n"),
        ("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}", False, "[assistant]"),
    ],
)
def test_thoughts_or_header_before_an_answer(template: str, thinking: bool, lead: str) -> None:
    found, _ = around_answer(chat(template), Template(enable_thinking=thinking))
    assert found == lead


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("  {% set d = strftime_now('%-d %B %y, %a') %}{{ d + '!' }}", "26 July 24, Fri!"),
        ("\n{% macro m() %}{{ strftime_now('%Y-%m-%d %H:%M') }}{% endmacro %}{{ m() }}",
         "\n2024-07-26 00:00"),
        ("{{ date_string }}{% if strftime_now is defined %}+{% endif %}", "26 Jul 2024+"),
    ],
)  # fmt: skip
def test_the_clock_reaches_no_prompt(template: str, expected: str) -> None:
    assert render(chat(template), [{"role": "user", "content": "?"}],
                  add_generation_prompt=True) == expected  # fmt: skip


def test_a_date_and_further_arguments() -> None:
    tokenizer = chat("{{ date_string }} {{ strftime_now('%d.%m.') }} {{ effort }}")
    template = Template(date_string="2025-04-10", arguments={"effort": "high"})
    messages = [{"role": "user", "content": "?"}]
    found = render(tokenizer, messages, add_generation_prompt=True, template=template)
    assert found == "2025-04-10 10.04. high"
    for given, message in (
        ({"date_string": "today"}, r"date_string` should be a date .* Found 'today'"),
        ({"arguments": {"messages": []}}, r"Found 'messages'"),
    ):
        with pytest.raises(InputError, match=message):
            Template(**given)


def test_settings_that_a_tokenizer_reads_are_part_of_keys() -> None:
    plain, dated = make_tiny_tokenizer(), chat(QWEN3)
    assert template_key(plain, Template()) == ""
    keys = [template_key(t, s) for t in (plain, dated) for s in (Template(), Template("Be kind."))]
    assert len(set(keys)) == 3  # the system prompt counts for every template


def test_an_export_records_the_settings(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    assert recorded_template(tokenizer.init_kwargs) is None
    template = Template("Be kind.", "10 Apr 2025", True, {"effort": 3})
    tokenizer.init_kwargs[RECORD] = asdict(template)
    tokenizer.save_pretrained(tmp_path)
    assert recorded_template(AutoTokenizer.from_pretrained(tmp_path).init_kwargs) == template


def test_control_tokens_are_special_or_of_the_template() -> None:
    tokenizer = chat(QWEN3)
    tokenizer.add_tokens(["<think>", "</tool>", "   "])
    found = control_tokens(tokenizer)
    assert found == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
