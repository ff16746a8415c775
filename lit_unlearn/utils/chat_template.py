"""A tokenizer's chat template: conversations as text, and the end of an assistant's turn."""

from __future__ import annotations

from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.utils.time_limit import computing_at_most

__all__ = ["MARK", "PLAIN_TEMPLATE", "around_answer", "render"]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
"""The documented form for tokenizers without a chat template: ``Question: ...`` and
``Answer: ...`` on lines of their own; the answer ends with the end-of-sequence token."""

MARK = "\u2063answer\u2063"
"""Content that no template changes, by which it is found in the rendered text."""
_SECONDS = 10.0
"""Seconds that a template may compute for one conversation."""


def render(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    """Return a conversation as text, by the tokenizer's chat template or by `PLAIN_TEMPLATE`.

    Args:
        tokenizer: A transformers tokenizer.
        messages: Role and content of each turn.
        add_generation_prompt: Whether the text ends where an assistant's answer begins.

    Raises:
        InputError: The template fails or computes for too long.
    """
    try:
        with computing_at_most(_SECONDS):
            rendered = tokenizer.apply_chat_template(
                messages,
                chat_template=tokenizer.chat_template or PLAIN_TEMPLATE,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
    except Exception as error:  # a template fails with errors of every kind
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            "The tokenizer's chat template should render a conversation. Found: "
            f"{type(error).__name__}: {reason}; correct the template, or take another model."
        ) from error
    return str(rendered)


def around_answer(tokenizer: Any) -> tuple[str, str]:
    """Return the white space that a template writes before an answer, and the end of its turn.

    The end is the text behind the answer up to the first special token, or up to the first added
    token where no special one follows; the end-of-sequence token where neither does.
    """
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": MARK}]
    prompt = render(tokenizer, turns[:1], add_generation_prompt=True)
    whole = render(tokenizer, turns, add_generation_prompt=False)
    before, _, after = whole.partition(MARK)
    lead = before.removeprefix(prompt)
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(t.content for t in added if t.special)}
    for closing in (special, {t.content for t in added}):
        ends = [after.index(token) + len(token) for token in closing if token in after]
        if ends:
            return (lead if lead.isspace() else ""), after[: min(ends)]
    return (lead if lead.isspace() else ""), str(tokenizer.eos_token or "")
