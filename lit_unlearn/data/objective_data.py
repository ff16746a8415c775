"""Data of one objective: its rows, their answers, and the context of its teacher."""

from dataclasses import dataclass, field
from typing import Literal

from lit_unlearn.data.contexts import Context, NoContext
from lit_unlearn.data.prefills import Prefills, read_openers, read_refusals
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError

__all__ = ["AnswerSource", "Expectation", "ObjectiveData", "RejectedSource"]

Expectation = Literal["answer", "decline"]
AnswerSource = Literal["gold", "teacher", "refusal", "alternate", "student", "none"]
RejectedSource = Literal["gold", "refusal", "row"]


@dataclass
class ObjectiveData:
    """Data of one objective.

    Args:
        sources: Sources of the rows; the rows of several are joined.
        expect: Required behaviour of the teacher on these rows, `answer` or `decline`; the teacher
            gate checks it.
        rows: Rows in each step over all ranks (mixing `stratified`); 0.5 is a row every second
            step.
        answer: Text to predict: the row's `gold` answer, the `teacher`'s own answer under its
            context (generated once before training and stored in the run's folder), a `refusal`,
            an `alternate` (AltPO: a wrong answer that the start model generates once before
            training from question and gold answer), the `student`'s own answer (sampled at
            temperature 1 during training, and anew after `refresh_steps`; the gold one where it
            declines), or `none` (only the first token is predicted,
            from the question alone).
        refusals: Sentences that decline, one for each row in turn: a list, a file of them (.txt,
            .json, .jsonl), or `builtin`. They also replace `{refusal}` in contexts.
        context: Turns before the question that only the teacher sees; null for none.
        prefills: Beginnings of the answer with which the rows are trained; null for none.
        answer_tokens: Largest number of tokens of an answer that is generated (`answer` is
            `teacher`, `alternate` or `student`).
        refresh_steps: Number of steps after which the student's answer to a row is sampled anew.
        evaluation: Sources of the rows for the table before and after training; empty takes the
            first `evaluation_rows` training rows.
        evaluation_rows: Largest number of rows in that table; 0 leaves the objective out of it.
        evaluation_prefills: Openers for the prefilled half of the table, one for each row in
            turn: a list, `builtin:eval`, or null for none. They should differ from `prefills`.
        rejected: Answer that is made less likely, for objectives that compare two answers to a
            question (DPO, FLAT, AnswerPreservation) and prefer `answer`: `gold`, `refusal`, or
            `row` for the rejected answer of preference pairs; null for none.
        mark_spans: Whether to mark the tokens of gold answers that hold the knowledge, for PALU:
            the accepted answer, or the words that the question does not contain.
        validation: Rows for validation: sources, or a share of the training rows (above 0, below
            1) that is chosen by the seed and on which no objective trains; null for none.
    """

    sources: list[Source]
    expect: Expectation
    rows: float = 4
    answer: AnswerSource = "gold"
    refusals: list[str] | str = "builtin"
    context: Context | None = None
    prefills: Prefills | None = None
    answer_tokens: int = 48
    refresh_steps: int = 20
    evaluation: list[Source] = field(default_factory=list)
    evaluation_rows: int = 40
    evaluation_prefills: list[str] | str | None = None
    rejected: RejectedSource | None = None
    # not in the repr, which is the key of stored preparations and contains the training rows
    mark_spans: bool = field(default=False, repr=False)
    validation: list[Source] | float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_validation(self.validation)
        if self.refusals != "builtin":
            self.refusals = read_refusals(self.refusals)
        read_openers(self.evaluation_prefills or [], "evaluation_prefills")
        if not self.sources:
            raise InputError(
                "Parameter `sources` of an objective's data should list at least one source. "
                "Found none."
            )
        if self.expect == "answer" and self.answer in ("refusal", "alternate"):
            raise InputError(
                "An objective that expects answers should not have refusals or wrong answers as "
                f"answers. Found `expect: answer` with `answer: {self.answer}`; set "
                "`expect: decline`."
            )
        if self.answer == "student" and (self.prefills or self.rejected):
            raise InputError(
                "Parameter `answer` should not be `student` for rows with `prefills` or a "
                "`rejected` answer. Found it beside one; use `answer: gold`, or leave them out."
            )
        if self.mark_spans and (self.answer != "gold" or self.prefills or self.rejected):
            raise InputError(
                "Parameter `mark_spans` should be set only for rows with `answer: gold`, without "
                f"`prefills` and `rejected`. Found `answer: {self.answer}` or one of the two; "
                "leave `mark_spans` or these out."
            )
        if self.rejected is not None and (
            self.answer in (self.rejected, "none") or self.prefills is not None
        ):
            raise InputError(
                "Parameter `rejected` should name another answer than `answer`, for rows that have "
                f"an answer and no `prefills`. Found `rejected: {self.rejected}` with `answer: "
                f"{self.answer}`; leave `rejected` out for objectives that read one answer."
            )

    def ladder(self) -> tuple[Context, ...]:
        """Return the contexts to try, the strongest one last."""
        return (self.context or NoContext()).ladder()


def _check_validation(given: list[Source] | float | None) -> None:
    if given is not None and not (given if isinstance(given, list) else 0 < given < 1):
        raise InputError(
            "Parameter `validation` of an objective's data should be sources, or a share above 0 "
            f"and below 1 of the training rows. Found {given}; set for example 0.1."
        )
