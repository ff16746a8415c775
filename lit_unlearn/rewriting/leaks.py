"""What an anchor must not contain: the answers that are to be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lit_unlearn.rewriting.material import QA
from lit_unlearn.rewriting.words import fold, names

_SHORTEST = 3  # letters of a name that no anchor may have; shorter ones ("I", "UK") are everywhere


def telling(qa: QA) -> list[str]:
    """The expressions that give an answer away.

    They are the accepted spellings; where a row has none, the names and numbers of its answer that
    its question does not have; where there are none either, the whole answer.
    """
    if qa.accepted:
        return list(qa.accepted)
    asked = fold(qa.question)
    found = [name for name in names(qa.answer) if fold(name) not in asked]
    return found or [qa.answer.strip().rstrip(".!?")]


class Forgotten:
    """All that a set of rows to forget says.

    Common words that answer one row ("cheese") are refused in that row's own anchors alone; names
    that answer any row, in all anchors.

    Args:
        rows: The rows to forget.
        more: Further expressions that no anchor may contain.
    """

    def __init__(self, rows: Iterable[QA], more: Sequence[str] = ()) -> None:
        found = (text for qa in rows for text in telling(qa))
        everywhere = {text for text in found if _is_name(text)} | set(more)
        self._everywhere = pattern(tuple(sorted(everywhere)))

    def problem(self, anchor: QA, of: QA) -> str:
        """The forgotten expression in an anchor, as a reason to refuse it; or no text.

        Args:
            anchor: Question and answer that are to be kept.
            of: The row to forget beside which it shall stand.
        """
        text = fold(f"{anchor.question}\n{anchor.answer}")
        found = pattern(tuple(telling(of))).search(text) or self._everywhere.search(text)
        return f"it contains {found[0]!r}, which is to be forgotten" if found else ""


@lru_cache(maxsize=4096)
def pattern(expressions: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of the expressions, as whole words of a folded text."""
    texts = [re.escape(fold(text).strip()) for text in expressions if text.strip()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(texts)})(?!\w)" if texts else r"(?!)")


def _is_name(text: str) -> bool:
    return len(text) >= _SHORTEST and any(letter.isupper() for letter in text)
