"""Normal forms of texts, in which spellings that mean the same are equal."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["casefold", "fold"]

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4\u2032`", "'"))
_ACCENTS = re.compile("[\u0300-\u036f]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


def casefold(text: str) -> str:
    """Return a text in Unicode NFKC without case, and with plain apostrophes."""
    return unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()


def fold(text: str) -> str:
    """Return a text as `casefold` does, also without accents and thousands separators."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES))
    return _THOUSANDS.sub("", casefold(_ACCENTS.sub("", decomposed)))
