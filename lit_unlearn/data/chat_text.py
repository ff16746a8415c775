"""Conversations as text and as token ids; control tokens in rows are encoded as ordinary text."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from lit_unlearn.errors import InputError
from lit_unlearn.types import Turn
from lit_unlearn.utils.chat_template import MARK, Template, around_answer, control_tokens, render
from lit_unlearn.utils.thoughts import Thoughts

__all__ = ["ChatText", "space_between"]

_GUARD = "\ufdd0"
"""Noncharacter that splits the text of a control token; the parts are tokenised separately."""


class ChatText:
    """Text and token ids of prompts, from a tokenizer and its chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
        self._tokenizer = tokenizer
        self._template = template
        controls = control_tokens(tokenizer)
        self._controls = re.compile("|".join(map(re.escape, controls))) if controls else None
        self._system = self._has_system_role()
        given = template if self._system else replace(template, system=None)
        lead, self.end_of_turn = around_answer(tokenizer, given)
        white = not lead.strip()
        self.lead, self._thoughts = (lead, "") if white else ("", lead)

    def prompt(
        self, turns: Sequence[Turn], plain: bool, prefill: str, *, thinks: bool = False
    ) -> str:
        """Return the text in front of the answer: prompt, empty thoughts if any, and prefill.

        The turns of a plain row become one text: a reply continues the line of its question, and
        each other turn begins a paragraph. Control tokens of the turns are guarded. ``thinks``
        leaves out the empty thoughts, so that the model writes its thoughts.

        Raises:
            TemplateError: The chat template refuses the conversation.
        """
        turns = [Turn(turn.role, self.guarded(turn.content)) for turn in turns]
        prefill = self.guarded(prefill)
        if not plain:
            prompt = self._render(turns) + ("" if thinks else self._thoughts)
            return prompt + self.lead + prefill if prefill else prompt
        prompt = ""
        for turn in turns:
            reply = turn.role == "assistant" or not prompt
            prompt += (space_between(prompt, turn.content) if reply else "\n\n") + turn.content
        return prompt + space_between(prompt, prefill) + prefill

    def _render(self, turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        has_system = any(turn.role == "system" for turn in turns)
        if self._template.system is not None and not has_system:
            messages.insert(0, {"role": "system", "content": self._template.system})
        if not self._system:
            messages = _fold_system(messages)
        return render(
            self._tokenizer, messages, add_generation_prompt=True, template=self._template
        )

    def _has_system_role(self) -> bool:
        self._system = True
        try:
            return MARK in self._render((Turn("system", MARK), Turn("user", "question")))
        except InputError:  # the template refuses the role
            return False

    def ids(self, text: str, plain: bool) -> list[int]:
        """Return the token ids of a text that begins a sequence."""
        tokenizer, ids = self._tokenizer, self.tokens(text)
        if tokenizer.chat_template and not plain:
            return ids
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        return ids if first is None else [int(first), *ids]

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text without a begin-of-text token; guards are removed."""
        first, *rest = text.split(_GUARD)
        return self._plain(first) + [token for part in rest for token in self._inner(part)]

    def _inner(self, text: str) -> list[int]:
        """Return the token ids of a text that follows another, without a prepended space."""
        line, whole = self._plain("\n"), self._plain("\n" + text)
        return whole[len(line) :] if whole[: len(line)] == line else self._plain(text)

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def thoughts(self) -> Thoughts | None:
        """Return the ids around the thoughts that the model writes; None if it writes none."""
        if not self._template.enable_thinking or not self._thoughts:
            return None
        asked = self._render((Turn("user", MARK),)).rpartition(MARK)[2]
        tags = list(re.finditer(r"[<\[\u25c1]/", self._thoughts))  # if none, the whole text closes
        closing = self._thoughts[tags[-1].start() :] if tags else self._thoughts
        mark = tuple(self.tokens(closing.rstrip()))
        return Thoughts(tuple(self.tokens(asked)), mark, tuple(self.tokens(closing)))

    def control_token(self, texts: Iterable[str]) -> str | None:
        """Return the first control token of the tokenizer in the texts, or None."""
        if self._controls is None:
            return None
        found = (self._controls.search(text) for text in texts)
        return next((match[0] for match in found if match), None)

    def guarded(self, text: str) -> str:
        """Split the control tokens in a text, so that they are tokenised as ordinary text."""
        if self._controls is None:
            return text
        return self._controls.sub(lambda m: m[0][0] + _GUARD + self.guarded(m[0][1:]), text)


def space_between(before: str, after: str) -> str:
    """Return a space if no white space separates two texts."""
    apart = not before or not after or before[-1].isspace() or after[0].isspace()
    return "" if apart else " "


def _fold_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Put the system text before the first user message, for templates without a system role."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest
