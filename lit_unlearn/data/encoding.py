"""Encoding of examples as token ids for student and teacher, aligned on the answer.

Only this module decides which positions are predicted. Text is rendered by the
tokenizer's chat template (`chat_text`). The end-of-turn token belongs to the answer, so that a
model also learns when to stop.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.chat_text import ChatText, space_between
from lit_unlearn.data.spellings import same_words
from lit_unlearn.errors import InputError
from lit_unlearn.types import EncodedExample, Example, Turn
from lit_unlearn.utils.chat_template import Template, TemplateError
from lit_unlearn.utils.thoughts import Thoughts

__all__ = ["Encoder", "EncodingError", "OnProblem"]

OnProblem = Literal["error", "warn"]

log = logging.getLogger(__name__)


class EncodingError(InputError):
    """Row that cannot be encoded; `kind` is the name under which `Encoder.problems` counts it."""

    def __init__(self, kind: str, example: Example, what: str) -> None:
        super().__init__(f"Row {example.example_id!r} {what}.")
        self.kind = kind


@dataclass
class Encoder:
    """Encoder of examples with one tokenizer.

    Args:
        tokenizer: A transformers tokenizer.
        max_length: Maximum number of tokens in a sequence of student or teacher.
        on_problem: Treatment of rows whose prompt is not a prefix of the whole after tokenising,
            whose answer is cut off at `max_length`, or whose answer is empty. ``error`` stops with
            the row's id. ``warn`` encodes prompt and answer separately, keeps the cut answer,
            leaves out the row with the empty answer, and counts each in `problems`.
        template: Settings of the chat template.
        skip_refused: Whether rows that the chat template refuses are left out and counted, even if
            `on_problem` is ``error``.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int = 2048
    on_problem: OnProblem = "error"
    template: Template = field(default_factory=Template)
    skip_refused: bool = False
    problems: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._text = ChatText(self.tokenizer, self.template)
        self._row: Example | None = None
        self._sequences: dict[tuple[object, ...], tuple[list[int], int]] = {}
        """Cache of the current row: student, teacher and prefill variants share some token ids."""

    def prompt_ids(
        self, turns: Sequence[Turn], *, plain: bool = False, prefill: str = ""
    ) -> list[int]:
        """Return the token ids in front of a reply, including the prefill.

        A model that thinks (`Template.enable_thinking`) begins its thoughts here, unless a prefill
        has begun the answer.
        """
        thinks = self.template.enable_thinking and not prefill
        return self._text.ids(self._text.prompt(turns, plain, prefill, thinks=thinks), plain)

    @property
    def thoughts(self) -> Thoughts | None:
        """Ids around the thoughts that the model writes before replies; None if it writes none."""
        return self._text.thoughts()

    def control_token(self, texts: Iterable[str]) -> str | None:
        """Return the first control token of the tokenizer in the texts, or None."""
        return self._text.control_token(texts)

    def accepted(self, name: str, examples: Sequence[Example]) -> list[Example]:
        """Return the rows of an objective whose conversation the chat template renders.

        Raises:
            InputError: The template refuses a row that may not be left out, or all rows.
        """
        kept: list[Example] = []
        refused: list[EncodingError] = []
        for example in examples:
            try:
                self.check(example)
                kept.append(example)
            except EncodingError as error:
                self._count(error)
                refused.append(error)
        if refused:
            told = (name, len(refused), refused[0])
            log.warning("Objective %r: left out %d rows; the first: %s", *told)
        if refused and not kept:
            raise InputError(f"Objective {name!r} should keep rows. Found none; {refused[0]}")
        return kept

    def check(self, example: Example) -> None:
        """Check that the chat template renders a row's conversation, or raise `EncodingError`."""
        self._named(example, example.turns)

    def _named(self, example: Example, turns: Sequence[Turn], prefill: str = "") -> str:
        """Return the text in front of an answer; name the row that the chat template refuses."""
        try:
            return self._text.prompt(turns, example.plain, prefill)
        except TemplateError as error:
            what = (
                f"has turns that the chat template refuses ({error.reason}); repair the row, or "
                "set `on_bad_row: skip` or `on_problem: warn`"
            )
            raise EncodingError("refused by the chat template", example, what) from error

    def _count(self, error: EncodingError) -> None:
        """Count a problem, or raise the error if rows with this problem may not be left out."""
        refused = isinstance(error.__cause__, TemplateError)
        if self.on_problem == "error" and not (refused and self.skip_refused):
            raise error
        self.problems[error.kind] += 1

    def encode(
        self,
        example: Example,
        answer: str | None,
        *,
        teacher_turns: Sequence[Turn] | None = None,
        prefill: str = "",
        unprefilled_turns: Sequence[Turn] | None = None,
    ) -> EncodedExample | None:
        """Encode one row for student and teacher.

        The student reads the turns of the example and predicts ``answer``, not `example.answer`;
        for None, it predicts only the first token. The teacher reads `teacher_turns`, by default
        the student's turns. The prefill is the beginning of the answer and part of both prompts.
        `unprefilled_turns`, by default the teacher's, are the teacher's turns without the prefill.

        Returns:
            The encoded row, or None for a row that was left out and counted (`on_problem` warn).

        Raises:
            EncodingError: The row has one of the problems listed under `on_problem`.
        """
        turns = tuple(teacher_turns or example.turns)
        bare, bare_start = list[int](), 0
        try:
            student, start, teacher, teacher_start = self._aligned(example, answer, turns, prefill)
            if prefill:
                bare_turns = tuple(unprefilled_turns or turns)
                joined = self._joined(example, answer, "")
                bare, bare_start = self._sequence(example, bare_turns, "", joined)
        except EncodingError as error:
            self._count(error)
            return None
        if not same_words(self.tokenizer, bare[bare_start:], student[start:]):
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

    def _aligned(
        self, example: Example, answer: str | None, teacher_turns: tuple[Turn, ...], prefill: str
    ) -> tuple[list[int], int, list[int], int]:
        """Return the ids of student and teacher, each with the index of the first answer token."""
        joined = self._joined(example, answer, prefill)
        student, start = self._sequence(example, example.turns, prefill, joined)
        teacher, teacher_start = self._sequence(example, teacher_turns, prefill, joined)
        shortest = min(len(student) - start, len(teacher) - teacher_start)
        student, teacher = student[: start + shortest], teacher[: teacher_start + shortest]
        if student[start:] != teacher[teacher_start:]:
            what = (
                "has an answer whose token ids differ after the teacher's and the student's "
                "prompt; use a context that ends like the student's prompt"
            )
            raise EncodingError("alignment", example, what)
        return student, start, teacher, teacher_start

    def _joined(self, example: Example, answer: str | None, prefill: str) -> str:
        """Return the answer with its end of turn, after a space if it follows words."""
        if answer is None:
            return ""
        if not answer.strip():
            what = (
                "has an empty answer; give the row an answer, or use `answer: none` or "
                "`answer: teacher`"
            )
            raise EncodingError("empty answer", example, what)
        before = prefill or (example.question if example.plain else "")
        space = space_between(before, answer)
        if not prefill and not example.plain and not answer[0].isspace():
            space = self._text.lead
        end = str(self.tokenizer.eos_token or "") if example.plain else self._text.end_of_turn
        return space + self._text.guarded(answer) + end

    def _sequence(
        self, example: Example, turns: Sequence[Turn], prefill: str, joined: str
    ) -> tuple[list[int], int]:
        """Return the token ids of prompt and answer, and the index of the first answer token."""
        if example is not self._row:
            self._row, self._sequences = example, {}
        key = (turns, prefill, joined)
        if key not in self._sequences:
            self._sequences[key] = self._new_sequence(example, turns, prefill, joined)
        return self._sequences[key]

    def _new_sequence(
        self, example: Example, turns: Sequence[Turn], prefill: str, joined: str
    ) -> tuple[list[int], int]:
        prompt_text = self._named(example, turns, prefill)
        prompt = self._text.ids(prompt_text, example.plain)
        whole = self._text.ids(prompt_text + joined, example.plain) if joined else prompt
        if whole[: len(prompt)] != prompt:
            whole = self._apart(example, prompt, joined, whole)
        if not prompt:
            what = (
                "has an empty prompt, and the tokenizer has no begin-of-text token; give the row a "
                "question"
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
                "`on_problem: warn` to encode prompt and answer separately"
            )
            raise EncodingError("boundary", example, what)
        self.problems["boundary"] += 1
        return prompt + self._text.tokens(joined)

    def _cut(self, example: Example, whole: list[int], prompt_length: int) -> list[int]:
        if self.on_problem == "error" or prompt_length >= self.max_length:
            what = (
                f"has {len(whole)} tokens, {prompt_length} of them in the prompt, more than "
                f"`max_length` = {self.max_length}; raise it, or set `on_problem: warn` to train "
                "on the cut answer"
            )
            raise EncodingError("too long", example, what)
        self.problems["cut answer"] += 1
        return whole[: self.max_length]
