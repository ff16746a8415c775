"""Plain passages -> questions and answers by rule: continue the text, and fill in a blank.

No language model is used, so that the conversion is exact, free and the same everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "BLANK",
    "CONTINUE",
    "FILL_IN",
    "Cloze",
    "ask_blank",
    "clozes",
    "continuation",
    "sentences",
]

CONTINUE = "Continue the following passage: "
FILL_IN = "Fill in the blank: "
BLANK = "____"

_SHORTEST_SENTENCE = 6  # words; below it a blank leaves too little to go by
_SHORTEST_HALF = 3  # words on either side of a continuation
_LONGEST_ENTITY = 5  # words; longer runs of capitals are titles or headings
_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_NUMBER = re.compile(r"\d[\d.,]*\d|\d")
_BOUNDARY = re.compile(
    r"(?<=[.!?])[\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[A-Z0-9\u00c0-\u00d6\u00d8-\u00de])"
)
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|No|vs|ca|cf|e\.g|i\.e))\.$")
_FIRST_PERSON = re.compile(r"I(?:['\u2019]\w+)?")
_STANDALONE_BLANK = re.compile(r"(?<!\w)_{3,}(?!\w)")


@dataclass(frozen=True)
class Cloze:
    """A sentence with one expression taken out."""

    question: str
    answer: str


def ask_blank(question: str) -> str:
    """A text with a blank (``___``) as a request to fill it in; any other text unchanged."""
    asks = question.casefold().startswith(("fill in", "complete"))
    return question if asks or not _STANDALONE_BLANK.search(question) else FILL_IN + question


def sentences(text: str) -> list[str]:
    """The sentences of a text: ends of sentences are followed by a capital or a number.

    Initials and common abbreviations ("J. K.", "Dr.") do not end one.
    """
    parts: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        sentence = text[start : match.end()].strip()
        if _ABBREVIATION.search(sentence):
            continue
        parts.append(sentence)
        start = match.end()
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def continuation(text: str) -> tuple[str, str] | None:
    """First part and rest of a passage, cut at the end of a sentence near the middle.

    A passage of one sentence is cut between words. None where a side would have fewer than three
    words.
    """
    parts = sentences(text)
    cuts = [(" ".join(parts[:count]), " ".join(parts[count:])) for count in range(1, len(parts))]
    cuts = [cut for cut in cuts if _long_enough(cut)]
    if not cuts:
        words = text.split()
        middle = len(words) // 2
        cuts = [(" ".join(words[:middle]), " ".join(words[middle:]))]
    first, rest = min(cuts, key=lambda cut: abs(len(cut[0]) - len(cut[1])))
    return (first, rest) if _long_enough((first, rest)) else None


def _long_enough(cut: tuple[str, str]) -> bool:
    return all(len(part.split()) >= _SHORTEST_HALF for part in cut)


def clozes(text: str, count: int = 2) -> list[Cloze]:
    """Up to ``count`` sentences with a blank, in the order of the text.

    The blank is a capitalised expression inside the sentence, else a number, else the longest
    content word; sentences that offer the better kind are taken first, earlier ones first.
    """
    ranked: list[tuple[int, int, Cloze]] = []
    for position, sentence in enumerate(sentences(text)):
        if len(sentence.split()) < _SHORTEST_SENTENCE:
            continue
        for rank, candidates in enumerate(_candidates(sentence)):
            answer = next((c for c in candidates if _occurs_once(sentence, c)), None)
            if answer is not None:
                question = FILL_IN + sentence.replace(answer, BLANK, 1)
                ranked.append((rank, position, Cloze(question, answer)))
                break
    chosen = sorted(ranked, key=lambda item: item[:2])[:count]
    return [cloze for _, _, cloze in sorted(chosen, key=lambda item: item[1])]


def _candidates(sentence: str) -> tuple[list[str], list[str], list[str]]:
    """Capitalised expressions, numbers and long words of a sentence, each the longest first."""
    entities: list[list[re.Match[str]]] = []
    words = list(_WORD.finditer(sentence))
    for previous, word in pairwise(words):
        if not word[0][0].isupper() or _FIRST_PERSON.fullmatch(word[0]):
            continue
        joined = sentence[previous.end() : word.start()] == " "
        if entities and joined and entities[-1][-1] is previous:
            entities[-1].append(word)
        else:
            entities.append([word])
    runs = [run for run in entities if len(run) <= _LONGEST_ENTITY]
    names = [_without_possessive(sentence[run[0].start() : run[-1].end()]) for run in runs]
    numbers = [match[0] for match in _NUMBER.finditer(sentence)]
    content = [word[0] for word in words[1:] if word[0].isalpha() and len(word[0]) > 4]
    return _longest_first(names), _longest_first(numbers), _longest_first(content)


def _without_possessive(name: str) -> str:
    return re.sub(r"['\u2019]s$", "", name)


def _longest_first(texts: list[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)  # stable: the first of equals stays first


def _occurs_once(sentence: str, expression: str) -> bool:
    return sentence.casefold().count(expression.casefold()) == 1
