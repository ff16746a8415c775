"""Questions in more than one set, such as a row to forget that is also a row to keep."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from lit_unlearn.types import Example
from lit_unlearn.utils.text import casefold

__all__ = ["Duplicates", "describe", "find_duplicates", "normalise", "question_key"]

_SHOWN = 3


Duplicates = dict[str, dict[str, list[str]]]
"""Question (text of the first group) -> group -> ids of the group's rows with this question."""


def normalise(text: str) -> str:
    """Return a text without case, punctuation, white space and differences of Unicode form.

    A text of punctuation only is kept.
    """
    folded = casefold(text)
    kept = "".join(c for c in folded if unicodedata.category(c)[0] not in "PZC")
    return kept or folded.strip()


def question_key(example: Example) -> str:
    """Return a text that is equal for rows with the same question.

    A row without question text (a raw passage) is compared by its answer.
    """
    return normalise(example.question.strip() or example.answer)


def find_duplicates(rows: Mapping[str, Sequence[Example]]) -> Duplicates:
    """Find questions that are in more than one of the named groups, in order of appearance.

    Questions are equal if `question_key` gives equal texts.
    """
    found: dict[str, tuple[str, dict[str, list[str]]]] = {}
    for group, examples in rows.items():
        for example in examples:
            text = example.question.strip() or example.answer
            _, by_group = found.setdefault(question_key(example), (text, {}))
            by_group.setdefault(group, []).append(example.example_id)
    return {text: by_group for text, by_group in found.values() if len(by_group) > 1}


def describe(duplicates: Duplicates, forget_names: Sequence[str]) -> str:
    """Describe in one paragraph the questions that are both to be forgotten and to be kept.

    Questions that only groups of the same kind share (such as forget and adversarial) are left out,
    since they do not work against each other. If none is left, the text is empty.
    """
    counts: Counter[tuple[str, str]] = Counter()
    opposed = []
    for question, by_group in duplicates.items():
        pairs = [
            (a, b) if a in forget_names else (b, a)
            for a, b in combinations(by_group, 2)
            if (a in forget_names) != (b in forget_names)
        ]
        counts.update(pairs)
        if pairs:
            first = ", ".join(ids[0] for ids in by_group.values())
            opposed.append(f"{question[:80]!r} ({first})")
    if not opposed:
        return ""
    shares = ", ".join(f"{count} in {a} and {b}" for (a, b), count in counts.items())
    plural = "question is" if len(opposed) == 1 else "questions are"
    more = f" and {len(opposed) - _SHOWN} more" if len(opposed) > _SHOWN else ""
    return (
        f"{len(opposed)} {plural} both to be forgotten and to be kept ({shares}), so that these "
        f"objectives work against each other: {'; '.join(opposed[:_SHOWN])}{more}. "
        "Remove them from one objective, with `where`, `offset` or `limit` of its source."
    )
