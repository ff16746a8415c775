"""Words, names and numbers of a text, for checks by rule; made for English."""

from __future__ import annotations

import re
import unicodedata

_STOP_WORDS = """
a about after all also an and any are as at be because been before being but by can could did do
does during for from had has have he her hers him his how i if in into is it its may me might more
most my no not of on one only or other our out over she should so some such than that the their
them then there these they this those to under until up upon us very was we were what when where
which while who whom whose why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_ENDS = re.compile(r"[.!?:;]\W*$|[\"\u201c(\n]$")
_ACCENTS = re.compile("[\u0300-\u036f]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


def fold(text: str) -> str:
    """Without case, accents, thousands separators, and with plain apostrophes."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    return _THOUSANDS.sub("", _ACCENTS.sub("", plain)).casefold()


def words(text: str) -> list[str]:
    """The words in their order, folded and without possessive ``'s``."""
    return [word.removesuffix("'s") for word in _WORD.findall(fold(text))]


def content_words(text: str) -> set[str]:
    """The words that are no stop words."""
    return set(words(text)) - STOP_WORDS


def lower_words(text: str) -> set[str]:
    """The words that are written without a capital, folded."""
    return {fold(word) for word in _WORD.findall(text) if word[0].islower()}


def names(text: str, *, goes_on: bool = False) -> list[str]:
    """Runs of capitalised words, and numbers, as they are written.

    A single capitalised word at the start of a sentence is no name (see `openers`), unless it is
    the whole text.

    Args:
        text: English.
        goes_on: It is the beginning of a longer text.
    """
    whole = not goes_on and len(_WORD.findall(text)) == 1
    return [_written(run, text) for run in _runs(text) if whole or _stands_out(run, text)]


def openers(text: str) -> list[str]:
    """Single words at the start of a sentence, no stop words: names ("Paris is ...") or not."""
    return [_written(run, text) for run in _runs(text) if not _stands_out(run, text)]


def _runs(text: str) -> list[list[re.Match[str]]]:
    runs: list[list[re.Match[str]]] = []
    for word in _WORD.finditer(text):
        if not (word[0][0].isupper() or word[0][0].isdigit()) or word[0] == "I":
            continue
        joined = runs and text[runs[-1][-1].end() : word.start()] == " "
        if joined:
            runs[-1].append(word)
        else:
            runs.append([word])
    return [run for run in (_without_opener(run, text) for run in runs) if run]


def _stands_out(run: list[re.Match[str]], text: str) -> bool:
    """Whether its capital is not due to its place alone."""
    return len(run) > 1 or not _opens(run[0], text) or run[0][0][0].isdigit()


def _written(run: list[re.Match[str]], text: str) -> str:
    return re.sub(r"['\u2019]s$", "", text[run[0].start() : run[-1].end()])


def _without_opener(run: list[re.Match[str]], text: str) -> list[re.Match[str]]:
    """A run without the stop word that is capitalised because a sentence begins there."""
    opener = run[0][0].casefold() in STOP_WORDS and _opens(run[0], text)
    return run[1:] if opener else run


def _opens(word: re.Match[str], text: str) -> bool:
    """Whether a word stands at the start of a sentence, a line or a quotation."""
    before = text[: word.start()].rstrip(" ")
    return not before or _ENDS.search(before) is not None
