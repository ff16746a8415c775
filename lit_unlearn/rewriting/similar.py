"""Find questions that repeat earlier ones, and questions of the same form."""

import re
from collections import defaultdict
from collections.abc import Sequence

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.rewriting.words import names, words
from lit_unlearn.utils.text import fold

__all__ = ["Seen", "form", "jaccard", "nearest", "question_word", "same_form_problem"]

_QUESTION_WORD = re.compile(
    r"\b(?:fill in|what|which|who|whom|whose|where|when|why|how (?:many|much)|how)\b"
)


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the common members as a share of all; 0 for two empty sets."""
    return len(first & second) / (len(first | second) or 1)


class Seen:
    """Earlier questions, to find whether a new one repeats one of them.

    A question repeats another if their normal forms are equal (`duplicates.normalise`), or if they
    have the same names and numbers and the Jaccard index of their sets of words is at least
    ``least``. Questions of one form about different things differ in a name.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._exact: dict[str, str] = {}
        self._close: dict[frozenset[str], list[tuple[frozenset[str], str]]] = defaultdict(list)

    def find(self, question: str) -> str:
        """Return the earlier question that this one repeats, or ""."""
        same = self._exact.get(normalise(question), "")
        if same:
            return same
        own = frozenset(words(question))
        known = self._close.get(_named(question), [])
        return next((text for other, text in known if jaccard(own, other) >= self.least), "")

    def add(self, question: str) -> None:
        """Remember a question."""
        self._exact.setdefault(normalise(question), question)
        self._close[_named(question)].append((frozenset(words(question)), question))


def _named(question: str) -> frozenset[str]:
    return frozenset(fold(name) for name in names(question))


def question_word(question: str) -> str:
    """Return the question word ("who", "how many"), or ""."""
    found = _QUESTION_WORD.search(fold(question))
    return found[0] if found else ""


def same_form_problem(anchor: str, question: str) -> str:
    """Refuse an anchor whose question word differs from that of its row to forget."""
    wanted, found = question_word(question), question_word(anchor)
    if not wanted or wanted == found or {wanted, found} <= {"what", "which"}:
        return ""
    return f"it asks {found or 'without a question word'!r} where the other asks {wanted!r}"


def form(question: str) -> frozenset[str]:
    """Return a question's words without its names and numbers."""
    plain = question
    for name in names(question):
        plain = plain.replace(name, " ")
    return frozenset(words(plain))


def nearest(question: str, others: Sequence[frozenset[str]]) -> list[int]:
    """Return the indices of forms (see `form`), the most similar to a question's form first."""
    own = form(question)
    return sorted(range(len(others)), key=lambda index: -jaccard(own, others[index]))
