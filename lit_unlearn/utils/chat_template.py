"""Chat templates: settings, rendered conversations, and the text around an answer."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.utils.time_limit import computing_at_most

__all__ = ["MARK", "PLAIN_TEMPLATE", "RECORD", "Template", "TemplateError"]
__all__ += ["around_answer", "control_tokens", "recorded_template", "render", "template_arguments"]
__all__ += ["template_key"]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
"""Template for tokenizers that have none: ``Question: ...`` and ``Answer: ...`` on separate lines;
the answer ends with the end-of-sequence token."""

MARK = "\u2063answer\u2063"
"""Content of an answer that no template changes, so that it is found in the rendered text."""
RECORD = "unlearning_template"
"""Key of ``tokenizer_config.json`` under which an export keeps the settings of its run."""
_SECONDS = 10.0
"""Seconds that a template may compute for one conversation."""
_CLOCK, _DIRECTIVES = "strftime_now", "aAbBdHIjmMpSyY"
_DATES = ("%d %b %Y", "%d %B %Y", "%Y-%m-%d", "%B %d, %Y", "%b %d, %Y")
_OWN = """
conversation messages chat_template tokenize add_generation_prompt continue_final_message
return_dict strftime_now date_string enable_thinking
"""
_THOUGHTS = re.compile(r"think|thought|reason|analysis|<[|]channel[|]>", re.IGNORECASE)
"""Words that distinguish thoughts from a header before an answer."""
_OPEN = re.compile(
    r"([<\[\u25c1])([\w:]*(?:think|thought|reason)\w*)([>\]\u25b7])\s*$", re.IGNORECASE
)
"""Thoughts that a generation prompt opens and does not close."""


@dataclass(frozen=True)
class Template:
    """Settings of the chat template: all that a prompt depends on besides the conversation.

    Args:
        system: System prompt of conversations that have none; null leaves it to the template. A
            system prompt of a row or of a teacher's context replaces it.
        date_string: Date of all prompts, such as `26 Jul 2024` or `2024-07-26`. Templates that read
            a date or the clock get this date.
        enable_thinking: Whether a model that can think generates thoughts before an answer. If not,
            the template's empty thoughts precede it. Given answers (in training, in scoring and
            after prefills) always have empty thoughts.
        arguments: Further arguments of the template by their names, such as `reasoning_effort`.
    """

    system: str | None = None
    date_string: str = "26 Jul 2024"
    enable_thinking: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.date()
        own = sorted({*_OWN.split()} & self.arguments.keys())
        if own:
            raise InputError(
                "Parameter `template.arguments` should name arguments of the chat template that "
                f"are not set elsewhere. Found {own[0]!r}; remove it."
            )

    def date(self) -> datetime:
        """Return the date of all prompts, at midnight; raise an `InputError` if it is no date."""
        for form in _DATES:
            try:
                return datetime.strptime(self.date_string, form)
            except ValueError:
                continue
        raise InputError(
            "Parameter `template.date_string` should be a date such as '26 Jul 2024' or "
            f"'2024-07-26'. Found {self.date_string!r}."
        )


class TemplateError(InputError):
    """A conversation that the chat template refuses; `reason` is the template's message."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The tokenizer's chat template should render a conversation. Found: {reason}; "
            "set what it needs in `data.template` (system, arguments), or take another model."
        )
        self.reason = reason


def template_arguments(tokenizer: Any, template: Template) -> dict[str, Any]:
    """Return the chat template of a tokenizer, and its arguments besides the conversation."""
    written = tokenizer.chat_template or PLAIN_TEMPLATE
    return {
        **template.arguments,
        "chat_template": _without_clock(written, template.date()),
        "date_string": template.date_string,
        "enable_thinking": template.enable_thinking,
    }


def _without_clock(written: Any, date: datetime) -> Any:
    """Return a chat template in which ``strftime_now`` gives a fixed date.

    transformers offers the clock under this name and lets no caller replace it; a macro hides it.
    """
    if not isinstance(written, str) or _CLOCK not in written:
        return written
    values = {letter: date.strftime("%" + letter) for letter in _DIRECTIVES}
    forms = {"%" + letter: value for letter, value in values.items()}
    forms |= {f"%{m}{k}": v.lstrip("0") or "0" for m in "-#" for k, v in values.items()}
    steps = "".join(f" | replace('{form}', '{value}')" for form, value in forms.items())
    # trim_blocks removes the newline, which lets lstrip_blocks see the beginning of a line
    return f"{{% macro {_CLOCK}(form) %}}{{{{ form{steps} }}}}{{% endmacro %}}\n{written}"


def template_key(tokenizer: Any, template: Template) -> str:
    """Return the settings as part of a key; empty if the tokenizer reads none of them."""
    written = str(tokenizer.chat_template or "")
    read = any(word in written for word in (_CLOCK, "date_string", "think"))
    return str(template) if read or template != Template() else ""


def recorded_template(config: Mapping[str, Any]) -> Template | None:
    """Return the settings that a run's export recorded in a tokenizer's config, or None.

    Raises:
        InputError: A setting has another type.
    """
    found = config.get(RECORD)
    if not isinstance(found, dict):
        return None
    given = {name: found[name] for name in asdict(Template()) if name in found}
    kinds = {"system": str | None, "date_string": str, "enable_thinking": bool, "arguments": dict}
    odd = next((name for name in given if not isinstance(given[name], kinds[name])), None)
    if odd is not None:
        raise InputError(
            f"Key `{RECORD}` of tokenizer_config.json should hold settings of `data.template`. "
            f"Found {odd}: {given[odd]!r:.60}; export the model again, or give `template`."
        )
    return Template(**given)


def render(
    tokenizer: Any,
    messages: list[dict[str, str]],
    *,
    add_generation_prompt: bool,
    template: Template | None = None,
) -> str:
    """Return a conversation as text, by the tokenizer's chat template or by `PLAIN_TEMPLATE`.

    The messages are role and content of each turn. With `add_generation_prompt` the text ends where
    an assistant's answer begins.

    Raises:
        TemplateError: The template fails or computes for too long.
    """
    try:
        with computing_at_most(_SECONDS):
            given = template_arguments(tokenizer, template or Template())
            given["add_generation_prompt"] = add_generation_prompt
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, **given)
    except Exception as error:  # a template fails with errors of every kind
        reason = (str(error).strip().splitlines() or [""])[0]
        raise TemplateError(f"{type(error).__name__}: {reason}") from error
    return str(rendered)


def around_answer(tokenizer: Any, template: Template | None = None) -> tuple[str, str]:
    """Return a template's text between generation prompt and answer, and its text after the answer.

    The first text is white space or empty thoughts, such as ``<think></think>`` on separate lines;
    it closes thoughts that the generation prompt opens. If the template ignores
    `add_generation_prompt`, it is the header of the assistant's turn. The second text ends with the
    first special token after the answer, or else with the first added token; without either it is
    the end-of-sequence token.

    Raises:
        TemplateError: The template fails, or leaves the question out.
    """
    system = template.system if template is not None else None
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns += [{"role": "user", "content": "question"}, {"role": "assistant", "content": MARK}]
    prompt = render(tokenizer, turns[:-1], add_generation_prompt=True, template=template)
    whole = render(tokenizer, turns, add_generation_prompt=False, template=template)
    if "question" not in prompt:
        raise TemplateError("a prompt without the user's text")
    before, _, after = whole.partition(MARK)
    lead = before[len(prompt) :] if before.startswith(prompt) else ""
    opened = _OPEN.search(prompt)
    if opened and not lead.strip():
        lead = f"\n{opened[1]}/{opened[2]}{opened[3]}\n\n"
    bare = render(tokenizer, turns[:-1], add_generation_prompt=False, template=template)
    if bare != prompt and not lead.isspace() and not _THOUGHTS.search(lead):
        lead = ""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(t.content for t in added if t.special)}
    for closing in (special, {t.content for t in added}):
        ends = [after.index(token) + len(token) for token in closing if token in after]
        if ends:
            return lead, after[: min(ends)]
    return lead, str(tokenizer.eos_token or "")


def control_tokens(tokenizer: Any) -> list[str]:
    """Return the texts of control tokens, the longest first: special and template tokens.

    Other added tokens, such as runs of white space, are ordinary text.
    """
    written = str(tokenizer.chat_template or "")
    added = tokenizer.added_tokens_decoder.values()
    found = {t.content for t in added if t.special or (t.content in written and t.content.strip())}
    found.update(tokenizer.all_special_tokens)
    return sorted((text for text in found if len(text) > 1), key=lambda text: (-len(text), text))
