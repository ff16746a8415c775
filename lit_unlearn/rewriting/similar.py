"""Questions that ask the same in nearly the same words, and questions of the same form."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.rewriting.words import fold, names, words

_ASKS = re.compile(
    r"\b(?:fill in|what|which|who|whom|whose|where|when|why|how (?:many|much)|how)\b"
)


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Common members as a share of all; 0 for two empty sets."""
    return len(first & second) / (len(first | second) or 1)


class Seen:
    """Questions so far; tells whether a new one is nearly one of them.

    Two questions are nearly the same when their normal forms are equal (`duplicates.normalise`), or
    when they have the same names and numbers and their sets of words overlap (Jaccard) by
    ``least``: questions of one form about different things differ in a name.

    Args:
        least: Overlap from which on they count as the same, 0 to 1.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._exact: dict[str, str] = {}
        self._close: dict[frozenset[str], list[tuple[frozenset[str], str]]] = defaultdict(list)

    def find(self, question: str) -> str:
        """The earlier question that it repeats, or no text."""
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


def asks(question: str) -> str:
    """The word with which a question asks ("who", "how many"), or no text."""
    found = _ASKS.search(fold(question))
    return found[0] if found else ""


def same_form_problem(anchor: str, question: str) -> str:
    """An anchor that asks with another word than the question beside which it shall stand."""
    wanted, found = asks(question), asks(anchor)
    if not wanted or wanted == found or {wanted, found} <= {"what", "which"}:
        return ""
    return f"it asks {found or 'without a question word'!r} where the other asks {wanted!r}"


def form(question: str) -> frozenset[str]:
    """A question's words without its names and numbers."""
    plain = question
    for name in names(question):
        plain = plain.replace(name, " ")
    return frozenset(words(plain))


def nearest(question: str, others: Sequence[frozenset[str]]) -> list[int]:
    """Indices of the forms (see `form`) by their likeness to a question's form, the best first."""
    own = form(question)
    return sorted(range(len(others)), key=lambda index: -jaccard(own, others[index]))
