"""A request: what a model should forget, what must stay, and when that counts as done."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.requests.thresholds import Threshold
from lit_unlearn.rewriting.source_texts import QA

__all__ = ["DEFAULT_RECIPE", "ID", "Forget", "Keep", "Request"]

DEFAULT_RECIPE = "erase.yaml"
_NO_SHARE = "/answer_nll"
"""End of the name of the figures of a battery that are no shares between 0 and 1."""
ID = re.compile(r"\w[\w.-]{0,63}")
"""Pattern of the id of a request, which is the name of a folder."""


@dataclass(frozen=True, kw_only=True)
class Forget:
    """Content to forget, in one or several forms.

    Args:
        texts: Passages; questions are made from them, by rule or by the `writer`.
        questions: Questions with answers, and with other spellings that count as the answer
            (`accepted`).
        rows: Sources of rows in any form that `fit` reads, see docs/own_data.md.
        subject: Name of the person or thing that the rows are about. Nothing that is kept may
            contain it. It needs rows in one of the other forms as examples.
    """

    texts: list[str] = field(default_factory=list)
    questions: list[QA] = field(default_factory=list)
    rows: list[Source] = field(default_factory=list)
    subject: str | None = None

    def __post_init__(self) -> None:
        _check_texts("forget.texts", self.texts)
        _check_questions("forget.questions", self.questions)
        if self.subject is not None and not self.subject.strip():
            raise InputError(
                "Parameter `forget.subject` should be a name. Found an empty text; remove the key."
            )
        if self.texts or self.questions or self.rows:
            return
        found = "none" if self.subject is None else "only a subject"  # a message may be stored
        raise InputError(
            f"Parameter `forget` should have texts, questions or rows. Found {found}; add some, "
            'such as `questions: [{question: "Who wrote Nana?", answer: Emile Zola., accepted: '
            "[Zola]}]`."
        )


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Rows that must stay; the built-in ones serve where nothing is given.

    Args:
        neighbors: Sources of rows near the forgotten, of the same form, and in its language.
        general: Sources of other rows.
    """

    neighbors: list[Source] = field(default_factory=list)
    general: list[Source] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Make a model forget something, and find out whether it did.

    Args:
        id: Name of the request; it also names the folder.
        model: Hub id, local folder or .gguf file of the model.
        forget: What to forget.
        keep: What must stay.
        recipe: Config of `fit`, or several that are merged; the request replaces its rows.
        thresholds: Bounds that decide the verdict; empty for those of docs/requests.md.
        writer: Chat model that makes questions from texts, and neighbours if none are given; null
            makes them by rule. A small model writes worse questions than the rules.
        seed: Seed of the split of the rows, and of training.
        ledger: File to which the request is added, for `lit-unlearn audit`; null for none.
        earlier: Folders of earlier requests, whose rows join the training so that it does not
            teach them back; null takes those of the ledger that led to `model`.
        earlier_share: Size of that part, in rows and in weight, as a share of the first objective
            that declines; above 0 and at most 1.
        teacher: Model that the recipe's teacher is; null for `model`, or, if earlier requests join,
            for the model from before the oldest one, where it is still there unchanged.
    """

    id: str
    model: str
    forget: Forget
    keep: Keep = field(default_factory=Keep)
    recipe: str | list[str] = DEFAULT_RECIPE
    thresholds: list[Threshold] = field(default_factory=list)
    writer: str | None = None
    seed: int = 0
    ledger: str | None = None
    earlier: list[str] | None = None
    earlier_share: float = 0.25
    teacher: str | None = None

    def __post_init__(self) -> None:
        if not ID.fullmatch(self.id):
            raise InputError(
                "Parameter `id` should be a name of at most 64 letters, digits, '.', '-' or '_'. "
                f"Found {self.id!r:.80}; change it."
            )
        check_number("seed", self.seed, 0, 2**32 - 1)
        none = "set `earlier: []` for no rows of earlier requests"
        check_number("earlier_share", self.earlier_share, 0, 1, above=True, repair=none)
        _check_thresholds(self.thresholds)
        names = {"model": self.model, "writer": self.writer, "ledger": self.ledger}
        names["recipe"] = min(self.recipes, default="")
        for parameter, name in names.items():
            if name is not None and not name.strip():
                raise InputError(
                    f"Parameter `{parameter}` should be a name. Found an empty one; set it."
                )

    @property
    def recipes(self) -> list[str]:
        """The configs of the recipe."""
        return [self.recipe] if isinstance(self.recipe, str) else self.recipe


def _check_thresholds(thresholds: Sequence[Threshold]) -> None:
    """Refuse bounds out of range, and those that contradict each other."""
    for number, own in enumerate(thresholds):
        share = not own.of_start and not own.figure.endswith(_NO_SHARE)
        repair = "write a share, such as 0.2 for 20 %" if share or own.of_start else "change it"
        for side in ("at_most", "at_least"):
            place, most = f"thresholds.{number}.{side}", 1 if share else math.inf
            check_number(place, getattr(own, side), 0, most, repair=repair)
        for other in thresholds[:number]:
            if (own.figure, own.of_start) == (other.figure, other.of_start):
                _check_together(own, other)


def _check_together(*pair: Threshold) -> None:
    """Refuse two bounds of a figure on one side, or without a value between them."""
    above = [each.at_least for each in pair if each.at_least is not None]
    below = [each.at_most for each in pair if each.at_most is not None]
    if len(above) != 1 or above[0] > below[0]:
        found = " and ".join(each.bound for each in pair)
        raise InputError(
            "Parameter `thresholds` should have at most one `at_least` and one `at_most` of a "
            f"figure, the first not above the second. Found {found} for {pair[0].figure}; remove "
            "one of them."
        )


def _check_texts(parameter: str, texts: Sequence[str]) -> None:
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise InputError(
                f"Parameter `{parameter}` should have texts. Found an empty one, number {number}; "
                "remove it."
            )


def _check_questions(parameter: str, questions: Sequence[QA]) -> None:
    for number, row in enumerate(questions, start=1):
        lacking = next((n for n in ("question", "answer") if not getattr(row, n).strip()), None)
        if lacking is not None:
            raise InputError(
                f"Parameter `{parameter}` should have questions with answers. Found an empty "
                f"{lacking}, number {number}; add it."
            )
        if not all(text.strip() for text in row.accepted):
            raise InputError(
                f"Parameter `{parameter}` should have `accepted` spellings that are not empty. "
                f"Found an empty one, number {number}; remove it."
            )
