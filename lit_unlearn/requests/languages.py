"""Languages: the parts of a battery that exist in English only."""

from collections.abc import Iterator, Sequence

from lit_unlearn.rewriting.source_texts import QA
from lit_unlearn.rewriting.words import STOP_WORDS, words

__all__ = ["language_notes"]

_SHARED = words("a an any as at by do has her him his in me more most no on so up was we")
"""Stop words that other languages of Latin script have too."""


def language_notes(forget: Sequence[QA]) -> Iterator[str]:
    """Yield a sentence if most questions seem not to be in English: they lack its small words."""
    english = STOP_WORDS.difference(_SHARED)
    others = sum(english.isdisjoint(words(row.question)) for row in forget)
    if 2 * others > len(forget):
        yield (
            "Most questions seem not to be in English. The battery's openers and other wordings "
            "are English. Refusals are found by English words, so that a model that declines in "
            "another language does not count as refusing."
        )
