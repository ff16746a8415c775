"""Check that an anchor does not contain the answers to forget."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lit_unlearn.rewriting.source_texts import QA
from lit_unlearn.rewriting.words import content_words, lower_words, names, openers, words
from lit_unlearn.utils.text import fold

__all__ = ["Forgotten", "revealing"]

_SHORTEST = 3  # letters of a name that is refused in all anchors; shorter ones ("I") are common
_DIGITS = 4  # digits of a number that is refused in all anchors, such as a year
_EMPTY_OPENERS = frozenset(
    ("absolutely", "although", "certainly", "however", "indeed", "though", "unfortunately", "yes")
)


def revealing(qa: QA) -> list[str]:
    """Return the expressions that give an answer away.

    They are the accepted spellings, if there are any. Otherwise they are the names and numbers of
    the answer that the question lacks, and words that may be names because they open a sentence
    (`words.openers`). An answer without names and numbers adds its other content words. If nothing
    is left, the expression is the whole answer.
    """
    if qa.accepted:
        return list(qa.accepted)
    asked = f" {' '.join(words(qa.question))} "
    found = [name for name in names(qa.answer) if f" {' '.join(words(name))} " not in asked]
    unsure = [name for name in _openers(qa) if f" {fold(name)} " not in asked]
    if not found:
        known = {*asked.split(), *map(fold, unsure), *_EMPTY_OPENERS}
        unsure += sorted(content_words(qa.answer) - known)
    return list(dict.fromkeys([*found, *unsure])) or [qa.answer.strip().rstrip(".!?")]


class Forgotten:
    """Expressions of all rows to forget, and further ones (`more`) that no anchor may contain.

    Common words that answer one row ("cheese") are refused only in the anchors of that row. Names
    that answer any row, and numbers of four or more digits, are refused in all anchors. A word that
    opens a sentence is not a name if a row to forget has it in lower case.
    """

    def __init__(self, rows: Iterable[QA], more: Sequence[str] = ()) -> None:
        rows = list(rows)
        common = {word for qa in rows for word in lower_words(f"{qa.question} {qa.answer}")}
        everywhere = set(more)
        for qa in rows:
            plain = {name for name in _openers(qa) if fold(name) in common}
            everywhere |= {text for text in revealing(qa) if _is_name(text)} - plain
        self._everywhere = _pattern(sorted(everywhere))

    def problem(self, anchor: QA, row: QA) -> str:
        """Return the reason to refuse an anchor of a row to forget, or ""."""
        text = fold(f"{anchor.question}\n{anchor.answer}")
        found = _row_pattern(row).search(text) or self._everywhere.search(text)
        return f"it contains {found[0]!r}, which is to be forgotten" if found else ""


@lru_cache(maxsize=4096)
def _row_pattern(qa: QA) -> re.Pattern[str]:
    return _pattern(revealing(qa))


def _pattern(expressions: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the expressions, as whole words of a folded text."""
    texts = [re.escape(fold(text).strip()) for text in expressions if text.strip()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(texts)})(?!\w)" if texts else r"(?!)")


def _openers(qa: QA) -> list[str]:
    """Return words of the answer that may be names, for a row without accepted spellings."""
    found = () if qa.accepted or len(words(qa.answer)) == 1 else openers(qa.answer)
    return [word for word in found if fold(word) not in _EMPTY_OPENERS]


def _is_name(text: str) -> bool:
    if sum(map(str.isdigit, text)) >= _DIGITS:
        return True
    capital = any(letter.isupper() for letter in text)
    return capital and len(text) >= _SHORTEST and fold(text) not in _EMPTY_OPENERS
