"""Questions that are in more than one set: a row to forget that is also a row to keep."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from lit_unlearn.types import Example

__all__ = ["Duplicate", "describe", "find_duplicates", "normalise"]

_SHOWN = 3


@dataclass(frozen=True)
class Duplicate:
    """One question that several groups have."""

    question: str
    """Question as the first group writes it."""
    example_ids: tuple[tuple[str, tuple[str, ...]], ...]
    """Pairs of a group and the ids of its rows with this question; at least two groups."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that have the question."""
        return tuple(group for group, _ in self.example_ids)


def normalise(text: str) -> str:
    """Return a text without case, punctuation, white space and differences of Unicode form.

    A text that has only punctuation keeps it.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c for c in folded if unicodedata.category(c)[0] not in "PZC")
    return kept or folded.strip()


def find_duplicates(rows: Mapping[str, Sequence[Example]]) -> list[Duplicate]:
    """Find questions that are in more than one of the named groups, in order of appearance.

    Questions are equal if `normalise` gives equal texts. A row without question text
    (a raw passage) is compared by its answer. A question twice in only one group is no duplicate.
    """
    found: dict[str, tuple[str, dict[str, list[str]]]] = {}
    for group, examples in rows.items():
        for example in examples:
            text = example.question.strip() or example.answer
            _, by_group = found.setdefault(normalise(text), (text, {}))
            by_group.setdefault(group, []).append(example.example_id)
    return [
        Duplicate(text, tuple((group, tuple(ids)) for group, ids in by_group.items()))
        for text, by_group in found.values()
        if len(by_group) > 1
    ]


def describe(duplicates: Sequence[Duplicate], forget_names: Sequence[str]) -> str:
    """Describe in one paragraph the questions that are both to be forgotten and to be kept.

    Questions that only groups of the same kind share (such as forget and adversarial) are left out,
    since they do not work against each other. If none is left, the text is empty.

    Args:
        duplicates: Result of `find_duplicates`.
        forget_names: Names of the groups whose rows are to be forgotten.
    """
    forget = set(forget_names)
    counts: dict[tuple[str, str], int] = {}
    opposed: list[Duplicate] = []
    for duplicate in duplicates:
        pairs = [
            pair
            for pair in combinations(duplicate.groups, 2)
            if (pair[0] in forget) != (pair[1] in forget)
        ]
        for first, second in pairs:
            key = (first, second) if first in forget else (second, first)
            counts[key] = counts.get(key, 0) + 1
        opposed += [duplicate] if pairs else []
    if not opposed:
        return ""
    shares = ", ".join(f"{count} in {a} and {b}" for (a, b), count in counts.items())
    shown = "; ".join(
        f"{duplicate.question[:80]!r} ({', '.join(ids[0] for _, ids in duplicate.example_ids)})"
        for duplicate in opposed[:_SHOWN]
    )
    plural = "question is" if len(opposed) == 1 else "questions are"
    more = f" and {len(opposed) - _SHOWN} more" if len(opposed) > _SHOWN else ""
    return (
        f"{len(opposed)} {plural} both to be forgotten and to be kept ({shares}), so that these "
        f"objectives work against each other: {shown}{more}. "
        "Take them out of one objective, with `where`, `offset` or `limit` of its source."
    )
