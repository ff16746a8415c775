"""Words, names and numbers of English texts, for the checks by rule."""

import re

from lit_unlearn.utils.text import fold

__all__ = ["STOP_WORDS", "content_words", "lower_words", "names", "openers", "words"]

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


def words(text: str) -> list[str]:
    """Return the words in their order, folded and without possessive ``'s``."""
    return [word.removesuffix("'s") for word in _WORD.findall(fold(text))]


def content_words(text: str) -> set[str]:
    """Return the words that are not stop words."""
    return set(words(text)) - STOP_WORDS


def lower_words(text: str) -> set[str]:
    """Return the words that are written without a capital, folded."""
    return {fold(word) for word in _WORD.findall(text) if word[0].islower()}


def names(text: str, *, incomplete: bool = False) -> list[str]:
    """Return runs of capitalised words, and numbers, as they are written.

    A single capitalised word at the start of a sentence is not a name (see `openers`), unless it
    is the whole text. It never is if the text is `incomplete`, the beginning of a longer one.
    """
    whole = not incomplete and len(_WORD.findall(text)) == 1
    return [_written(run, text) for run in _runs(text) if whole or _stands_out(run, text)]


def openers(text: str) -> list[str]:
    """Return single words at the start of a sentence, which may be names ("Paris is ...")."""
    return [_written(run, text) for run in _runs(text) if not _stands_out(run, text)]


def _runs(text: str) -> list[list[re.Match[str]]]:
    """Return runs of capitalised words and numbers, without a stop word that opens a sentence."""
    runs: list[list[re.Match[str]]] = []
    for word in _WORD.finditer(text):
        if not (word[0][0].isupper() or word[0][0].isdigit()) or word[0] == "I":
            continue
        if runs and text[runs[-1][-1].end() : word.start()] == " ":
            runs[-1].append(word)
        else:
            runs.append([word])
    for run in runs:
        if run[0][0].casefold() in STOP_WORDS and _opens(run[0], text):
            del run[0]
    return [run for run in runs if run]


def _stands_out(run: list[re.Match[str]], text: str) -> bool:
    """Return whether a run is a name or number even though sentences begin with a capital."""
    return len(run) > 1 or not _opens(run[0], text) or run[0][0][0].isdigit()


def _written(run: list[re.Match[str]], text: str) -> str:
    return re.sub(r"['\u2019]s$", "", text[run[0].start() : run[-1].end()])


def _opens(word: re.Match[str], text: str) -> bool:
    """Return whether a word is at the start of a sentence, a line or a quotation."""
    before = text[: word.start()].rstrip(" ")
    return not before or _ENDS.search(before) is not None
