"""Example -> token ids for student and teacher, aligned on the answer.

The only place that decides which positions are predicted. Text is rendered by the tokenizer's
chat template; a tokenizer without one gets the plain form of `PLAIN_TEMPLATE`. The end-of-turn
token belongs to the answer, so that a model also learns where to stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from transformers import PreTrainedTokenizerBase

from lit_unlearn.errors import InputError
from lit_unlearn.types import EncodedExample, Example, Turn
from lit_unlearn.utils.time_limit import computing_at_most

OnProblem = Literal["error", "warn"]

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
"""The documented form for tokenizers without a chat template: ``Question: ...`` and
``Answer: ...`` on lines of their own; the answer ends with the end-of-sequence token."""

_SENTINEL = "\u2063answer\u2063"
_SECONDS = 10.0
"""For which a template may compute over one conversation."""


class EncodingError(InputError):
    """One row cannot be encoded as asked; `kind` is the counter under which it is reported."""

    def __init__(self, kind: str, example: Example, what: str) -> None:
        super().__init__(f"Row {example.example_id!r} {what}.")
        self.kind = kind


@dataclass
class Encoder:
    """Encodes examples with one tokenizer.

    Args:
        tokenizer: A transformers tokenizer.
        max_length: Longest sequence in tokens, of the student and of the teacher.
        on_problem: What happens to a row whose prompt is not a prefix of the whole after
            tokenising, whose answer is cut off at `max_length`, or whose answer is empty:
            ``error`` stops with the row's id; ``warn`` encodes prompt and answer apart, keeps the
            cut answer, leaves the empty row out, and counts each in `problems`.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int = 2048
    on_problem: OnProblem = "error"
    problems: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._template = self.tokenizer.chat_template or PLAIN_TEMPLATE
        self._plain = not self.tokenizer.chat_template
        self._row: Example | None = None
        self._sequences: dict[tuple[object, ...], tuple[list[int], int]] = {}
        """Of that row, which student and teacher, and versions with other prefills, share."""
        self._system = self._has_system_role()
        self._lead, self._end_of_turn = self._around_answer()

    # ------------------------------------------------------------------------------- rendering

    def prompt_ids(
        self, turns: Sequence[Turn], *, plain: bool = False, prefill: str = ""
    ) -> list[int]:
        """Token ids up to where the answer begins, the prefill included."""
        return self._ids(self._prompt(turns, plain, prefill), plain)

    def _prompt(self, turns: Sequence[Turn], plain: bool, prefill: str) -> str:
        """The text in front of the answer; a prefill stands where the answer would begin.

        Of a plain row it is the turns as running text, a context before the row's own text: a reply
        goes on where its question ends, each other turn begins a paragraph.
        """
        if not plain:
            prompt = self._render(turns, add_generation_prompt=True)
            return prompt + self._lead + prefill if prefill else prompt
        prompt = ""
        for turn in turns:
            reply = turn.role == "assistant" or not prompt
            prompt += (_space_between(prompt, turn.content) if reply else "\n\n") + turn.content
        return prompt + _space_between(prompt, prefill) + prefill

    def _render(self, turns: Sequence[Turn], *, add_generation_prompt: bool) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        if not self._system:
            messages = _fold_system(messages)
        try:
            with computing_at_most(_SECONDS):
                rendered = self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=self._template,
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

    def _has_system_role(self) -> bool:
        self._system = True
        turns = (Turn("system", _SENTINEL), Turn("user", "question"))
        try:
            return _SENTINEL in self._render(turns, add_generation_prompt=True)
        except Exception:  # templates refuse a role with errors of their own kind
            return False

    def _around_answer(self) -> tuple[str, str]:
        """The white space that the template writes before an answer, and the end of its turn.

        The end is what comes after the answer, up to the first special token.
        """
        turns = (Turn("user", "question"), Turn("assistant", _SENTINEL))
        prompt = self._render(turns[:1], add_generation_prompt=True)
        before, _, after = self._render(turns, add_generation_prompt=False).partition(_SENTINEL)
        lead = before.removeprefix(prompt)
        added = self.tokenizer.added_tokens_decoder.values()
        special = {*self.tokenizer.all_special_tokens, *(t.content for t in added if t.special)}
        ends = [after.index(token) + len(token) for token in special if token in after]
        end = after[: min(ends)] if ends else str(self.tokenizer.eos_token or "")
        return (lead if lead.isspace() else ""), end

    def _ids(self, text: str, plain: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if plain or self._plain:
            first = self.tokenizer.bos_token_id
            first = self.tokenizer.eos_token_id if first is None else first
            return ids if first is None else [int(first), *ids]
        return ids

    # -------------------------------------------------------------------------------- encoding

    def encode(
        self,
        example: Example,
        answer: str | None,
        *,
        teacher_turns: Sequence[Turn] | None = None,
        prefill: str = "",
        unprefilled_turns: Sequence[Turn] | None = None,
    ) -> EncodedExample | None:
        """One row for student and teacher.

        Args:
            example: The row; its own `answer` is not read.
            answer: The text to predict; None for a row without answer (its first token alone is
                predicted).
            teacher_turns: The teacher's conversation; None gives it the student's.
            prefill: Beginning of the answer that is part of the prompt of both.
            unprefilled_turns: With a prefill, the teacher's conversation for the version without
                it; None takes `teacher_turns`.

        Returns:
            The encoded row, or None for a row that was left out and counted (`on_problem` warn).

        Raises:
            EncodingError: The row has one of the problems that `on_problem` speaks of.
        """
        try:
            return self._encode(
                example,
                answer,
                tuple(teacher_turns or example.turns),
                prefill,
                tuple(unprefilled_turns or teacher_turns or example.turns),
            )
        except EncodingError as error:
            if self.on_problem == "error":
                raise
            self.problems[error.kind] += 1
            return None

    def _encode(
        self,
        example: Example,
        answer: str | None,
        teacher_turns: tuple[Turn, ...],
        prefill: str,
        unprefilled_turns: tuple[Turn, ...],
    ) -> EncodedExample:
        joined = self._joined(example, answer, prefill)
        student, start = self._sequence(example, example.turns, prefill, joined)
        teacher, teacher_start = self._sequence(example, teacher_turns, prefill, joined)
        if student[start:] != teacher[teacher_start:]:
            shortest = min(len(student) - start, len(teacher) - teacher_start)
            student, teacher = student[: start + shortest], teacher[: teacher_start + shortest]
            if student[start:] != teacher[teacher_start:]:
                what = (
                    "tokenises differently after the student's and the teacher's prompt; use a "
                    "context that ends like the student's prompt"
                )
                raise EncodingError("alignment", example, what)
        bare: list[int] = []
        bare_start = 0
        if prefill:
            bare, bare_start = self._sequence(
                example, unprefilled_turns, "", self._joined(example, answer, "")
            )
            if len(bare) - bare_start != len(student) - start:
                bare, bare_start = [], 0
        return EncodedExample(
            example_id=example.example_id,
            student_ids=tuple(student),
            student_start=start,
            teacher_ids=tuple(teacher),
            teacher_start=teacher_start,
            target_count=len(student) - start,
            unprefilled_ids=tuple(bare),
            unprefilled_start=bare_start,
            prefill=prefill,
        )

    def _joined(self, example: Example, answer: str | None, prefill: str) -> str:
        """The answer with its end of turn, and a space where it follows words."""
        if answer is None:
            return ""
        if not answer.strip():
            what = (
                "has an empty answer; give the row an answer, or use `answer: none` or "
                "`answer: teacher`"
            )
            raise EncodingError("empty answer", example, what)
        before = prefill or (example.question if example.plain else "")
        space = _space_between(before, answer)
        if not prefill and not example.plain and not answer[0].isspace():
            space = self._lead
        end = str(self.tokenizer.eos_token or "") if example.plain else self._end_of_turn
        return space + answer + end

    def _sequence(
        self, example: Example, turns: Sequence[Turn], prefill: str, joined: str
    ) -> tuple[list[int], int]:
        """Token ids of prompt and answer, and where the answer begins."""
        if example is not self._row:
            self._row, self._sequences = example, {}
        key = (turns, prefill, joined)
        if key not in self._sequences:
            self._sequences[key] = self._new_sequence(example, turns, prefill, joined)
        return self._sequences[key]

    def _new_sequence(
        self, example: Example, turns: Sequence[Turn], prefill: str, joined: str
    ) -> tuple[list[int], int]:
        prompt_text = self._prompt(turns, example.plain, prefill)
        prompt = self._ids(prompt_text, example.plain)
        whole = self._ids(prompt_text + joined, example.plain) if joined else prompt
        if whole[: len(prompt)] != prompt:
            whole = self._apart(example, prompt, joined, whole)
        if not prompt:
            what = (
                "has an empty prompt, and the tokenizer has no token to begin a text with; give "
                "the row a question"
            )
            raise EncodingError("empty prompt", example, what)
        if len(whole) > self.max_length:
            whole = self._cut(example, whole, len(prompt))
        return whole, len(prompt)

    def _apart(
        self, example: Example, prompt: list[int], joined: str, whole: list[int]
    ) -> list[int]:
        if self.on_problem == "error":
            what = (
                f"has a prompt whose {len(prompt)} token ids (… {prompt[-4:]}) are not the "
                f"beginning of the whole (… {whole[max(0, len(prompt) - 4) : len(prompt)]}); set "
                "`on_problem: warn` to encode prompt and answer apart"
            )
            raise EncodingError("boundary", example, what)
        self.problems["boundary"] += 1
        answer: list[int] = self.tokenizer(joined, add_special_tokens=False)["input_ids"]
        return prompt + answer

    def _cut(self, example: Example, whole: list[int], prompt_length: int) -> list[int]:
        if self.on_problem == "error" or prompt_length >= self.max_length:
            what = (
                f"has {len(whole)} tokens, {prompt_length} of them prompt, which is more than "
                f"`max_length` = {self.max_length}; raise it, or set `on_problem: warn` to train "
                "on the cut answer"
            )
            raise EncodingError("too long", example, what)
        self.problems["cut answer"] += 1
        return whole[: self.max_length]


def _space_between(before: str, after: str) -> str:
    """A space where one text would otherwise be glued to the other."""
    apart = not before or not after or before[-1].isspace() or after[0].isspace()
    return "" if apart else " "


def _fold_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """System text in front of the first user message, for templates without a system role."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if system and rest:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest
