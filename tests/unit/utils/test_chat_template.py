"""The end of an assistant's turn, by templates of every kind."""

from __future__ import annotations

import pytest
from transformers import AddedToken, PreTrainedTokenizerFast

from lit_unlearn.errors import InputError
from lit_unlearn.models.tiny import tiny_tokenizer as make_tiny_tokenizer
from lit_unlearn.utils.chat_template import MARK, around_answer, render

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
