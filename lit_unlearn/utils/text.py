"""Normal forms of texts, and words of texts in every script."""

import re
import unicodedata

__all__ = ["UNSPACED"]
__all__ += ["casefold", "count_words", "first_words", "fold", "is_latin", "is_unspaced"]
__all__ += ["script_words"]

UNSPACED = (
    "\u0e00-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0fff\u1000-\u1049\u1050-\u109f\u1780-\u17d3"
    "\u17e0-\u17e9\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua9e0-\ua9fe\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f"
)
"""Characters of scripts without spaces between words (Chinese, Japanese, Thai, Lao, Tibetan,
Burmese, Khmer), as a character class of a regular expression. Each counts as a word."""

_LATIN = "A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_INDIC = "\u0590-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_UNSPACED = re.compile(f"[{UNSPACED}]")
_OTHER = re.compile(rf"(?:[^\W\d_{_LATIN}]|[{_INDIC}])")
_SCRIPT_WORD = re.compile(rf"[{UNSPACED}]|(?:[^\W_{UNSPACED}]|[{_INDIC}])+")

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4\u2032`", "'"))
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u0640\u064b-\u065f\u0670]"
)
"""Accents, and marks that Hebrew and Arabic texts may have or lack."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


def casefold(text: str) -> str:
    """Return a text in Unicode NFKC without case, and with plain apostrophes."""
    return unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()


def fold(text: str) -> str:
    """Return a text as `casefold` does, with the digits 0 to 9, no accents, and 1,000 as 1000."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES))
    plain = re.sub(r"\d", lambda digit: str(int(digit[0])), _ACCENTS.sub("", decomposed))
    return _THOUSANDS.sub("", casefold(plain))


def is_unspaced(text: str) -> bool:
    """Return whether most letters of a text are of a script without spaces between words."""
    letters = sum(character.isalpha() for character in text)
    return 2 * len(_UNSPACED.findall(text)) > letters > 0


def is_latin(text: str) -> bool:
    """Return whether at most half of a text's letters belong to scripts other than Latin."""
    letters = sum(character.isalpha() for character in text)
    return 2 * len(_OTHER.findall(text)) <= letters


def script_words(text: str) -> list[str]:
    """Return the words of a text in any script; a character of `UNSPACED` is a word."""
    return _SCRIPT_WORD.findall(text)


def count_words(text: str) -> int:
    """Return the number of words: parts between spaces, or characters in unspaced scripts."""
    return len(script_words(text)) if is_unspaced(text) else len(text.split())


def first_words(text: str, count: int) -> str:
    """Return the first words of a text, as `count_words` counts them."""
    if not is_unspaced(text):
        return " ".join(text.split()[:count])
    ends = [match.end() for match in _SCRIPT_WORD.finditer(text)][:count]
    end = ends[-1] if ends else 0
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1  # a mark belongs to the letter before it
    return text[:end].strip()
