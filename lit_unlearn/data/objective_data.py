"""What one objective reads: its rows, how they are answered, and what its teacher sees."""

from dataclasses import dataclass, field
from typing import Literal

from lit_unlearn.data.contexts import Context
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError

__all__ = ["AnswerSource", "Expectation", "ObjectiveData", "RejectedSource"]

Expectation = Literal["answer", "decline"]
AnswerSource = Literal["gold", "teacher", "refusal", "alternate", "none"]
RejectedSource = Literal["gold", "refusal"]


@dataclass
class ObjectiveData:
    """The data of one objective.

    Args:
        sources: Where the rows come from; several are joined.
        expect: What the teacher must do with these rows, `answer` or `decline`; the teacher gate
            checks it.
        rows: Rows in each step over all devices (mixing `stratified`); 0.5 is a row every other
            step.
        answer: The text that is predicted: the row's `gold` answer, the `teacher`'s own answer
            under its context (generated once before training and stored in the run's folder), a
            `refusal`, an `alternate` (a wrong answer that the start model makes up from question
            and gold answer, also once before training; AltPO), or `none` (only the first token is
            predicted, from the question alone).
        refusals: Sentences to decline with, used in turn, or `builtin`; also fill `{refusal}` in
            contexts.
        context: What only the teacher sees in front of the question; null for nothing.
        prefills: Beginnings of the answer that the rows are trained with; null for none.
        answer_tokens: Longest answer in tokens that is generated before training, where `answer`
            is `teacher` or `alternate`.
        evaluation: Where the rows for the table before and after training come from; empty takes
            the first `evaluation_rows` training rows.
        evaluation_rows: Most rows in that table.
        evaluation_prefills: Openers for the prefilled half of the table, one for each row in
            turn; a list, `builtin:eval`, or null for none. Keep them apart from `prefills`.
        rejected: For objectives that compare two answers to a question (DPO, FLAT,
            AnswerPreservation): the one that is made less likely, `gold` or `refusal`, beside
            `answer`, which is preferred; null for none.
    """

    sources: list[Source]
    expect: Expectation
    rows: float = 4
    answer: AnswerSource = "gold"
    refusals: list[str] | str = "builtin"
    context: Context | None = None
    prefills: Prefills | None = None
    answer_tokens: int = 48
    evaluation: list[Source] = field(default_factory=list)
    evaluation_rows: int = 40
    evaluation_prefills: list[str] | str | None = None
    rejected: RejectedSource | None = None

    def __post_init__(self) -> None:
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
        if self.rejected is not None and (
            self.answer in (self.rejected, "none") or self.prefills is not None
        ):
            raise InputError(
                "Parameter `rejected` should name another answer than `answer`, of rows that have "
                f"one and no `prefills`. Found `rejected: {self.rejected}` with `answer: "
                f"{self.answer}`; leave `rejected` out for objectives that read one answer."
            )
