"""Conversion of plain passages into questions by rule: continue the text, and fill in a blank.

No language model is used, so that the result is exact, cheap and the same on every machine.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from lit_unlearn.utils.text import count_words, first_words, is_unspaced

__all__ = ["CONTINUE", "FILL_IN", "Cloze", "ask_blank", "clozes", "continuation", "sentences"]

CONTINUE = "Continue the following passage: "
FILL_IN = "Fill in the blank: "
_BLANK = "____"

_SHORTEST_SENTENCE = 6  # words; a shorter one with a blank has too little context
_SHORTEST_HALF = 3  # words before and after the cut of a continuation
_LONGEST_ENTITY = 5  # words; longer capitalised expressions are titles or headings
_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
_NUMBER = re.compile(r"\d[\d.,]*\d|\d")
_BOUNDARY = re.compile(
    r"(?<=[.!?])[\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]?[A-Z0-9\u00c0-\u00d6\u00d8-\u00de])"
)
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|No|vs|ca|cf|e\.g|i\.e))\.$")
_FIRST_PERSON = re.compile(r"I(?:['\u2019]\w+)?")
_UNSPACED_END = re.compile(
    "[\u3002\uff01\uff1f\uff61!?\u17d4\u104b\u0f0d][\"'\u201d\u2019\u300d\u300f\uff09)\\]]*|\\s+"
)
"""Ends of sentences in scripts without spaces between words; a space ends one too (Thai)."""
_QUOTED = re.compile(
    "[\u300a\u300c\u300e\u201c]([^\u300a-\u300f\u201c\u201d]{2,20})[\u300b\u300d\u300f\u201d]"
)
_LATIN_NAME = re.compile(r"[A-Za-z][A-Za-z.-]+(?: [A-Z][A-Za-z.-]+)*")
_STANDALONE_BLANK = re.compile(r"(?<!\w)_{3,}(?!\w)")
_POSSESSIVE = re.compile(r"['\u2019]s$")


@dataclass(frozen=True)
class Cloze:
    """Sentence with a blank, and the expression that the blank replaces."""

    question: str
    answer: str


def ask_blank(question: str) -> str:
    """Turn a text with a blank (``___``) into a request to fill it in; keep any other text."""
    asks = question.casefold().startswith(("fill in", "complete"))
    return question if asks or not _STANDALONE_BLANK.search(question) else FILL_IN + question


def sentences(text: str) -> list[str]:
    """Split a text into sentences; the next sentence must begin with a capital or a number.

    Initials and common abbreviations ("J. K.", "Dr.") do not end a sentence. In scripts without
    spaces between words, full stops of the script and spaces end it.
    """
    if is_unspaced(text):
        ends = [0, *(match.end() for match in _UNSPACED_END.finditer(text)), len(text)]
        cut = (text[first:last].strip() for first, last in pairwise(ends))
        return [part for part in cut if part]
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
    """Return the first part and the rest of a passage, cut at the end of a sentence in the middle.

    A passage of one sentence is cut between words. The result is None if one part would have fewer
    than three words (`count_words`).
    """
    if is_unspaced(text):
        return _unspaced_continuation(text.strip())
    parts = sentences(text)
    cuts = [(" ".join(parts[:count]), " ".join(parts[count:])) for count in range(1, len(parts))]
    words = text.split()
    middle = len(words) // 2
    return _best(cuts, (" ".join(words[:middle]), " ".join(words[middle:])))


def _unspaced_continuation(text: str) -> tuple[str, str] | None:
    places = [match.end() for match in _UNSPACED_END.finditer(text)]
    first = first_words(text, count_words(text) // 2)
    cuts = [(text[:place].strip(), text[place:].strip()) for place in places]
    return _best(cuts, (first, text[len(first) :].strip()))


def _best(cuts: list[tuple[str, str]], other: tuple[str, str]) -> tuple[str, str] | None:
    """Return the cut nearest to the middle whose parts are long enough, or else the other one."""
    for each in (cuts, [other]):
        enough = [cut for cut in each if min(map(count_words, cut)) >= _SHORTEST_HALF]
        if enough:
            return min(enough, key=lambda cut: abs(len(cut[0]) - len(cut[1])))
    return None


def clozes(text: str, count: int = 2) -> list[Cloze]:
    """Return up to ``count`` sentences with a blank, in the order of the text.

    The blank replaces a capitalised expression inside the sentence, else a number, else the longest
    content word. Sentences with the better kind are taken first, and among these the earlier ones.
    In scripts without spaces, it replaces a title in quotation marks, a Latin name or a number.
    """
    ranked: list[tuple[int, int, Cloze]] = []
    for position, sentence in enumerate(sentences(text)):
        if count_words(sentence) < _SHORTEST_SENTENCE:
            continue
        for rank, candidates in enumerate(_candidates(sentence)):
            folded = sentence.casefold()
            answer = next((c for c in candidates if folded.count(c.casefold()) == 1), None)
            if answer is not None:
                question = FILL_IN + sentence.replace(answer, _BLANK, 1)
                ranked.append((rank, position, Cloze(question, answer)))
                break
    chosen = sorted(ranked, key=lambda item: item[:2])[:count]
    return [cloze for _, _, cloze in sorted(chosen, key=lambda item: item[1])]


def _candidates(sentence: str) -> tuple[list[str], list[str], list[str]]:
    """Return capitalised expressions, numbers and long words of a sentence, longest first."""
    if is_unspaced(sentence):
        quoted = [match[1] for match in _QUOTED.finditer(sentence)]
        latin = [match[0] for match in _LATIN_NAME.finditer(sentence)]
        figures = [match[0] for match in _NUMBER.finditer(sentence)]
        return _longest_first([*quoted, *latin]), _longest_first(figures), []
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
    names = [_POSSESSIVE.sub("", sentence[run[0].start() : run[-1].end()]) for run in runs]
    numbers = [match[0] for match in _NUMBER.finditer(sentence)]
    content = [word[0] for word in words[1:] if word[0].isalpha() and len(word[0]) > 4]
    return _longest_first(names), _longest_first(numbers), _longest_first(content)


def _longest_first(texts: list[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)  # stable: equally long texts keep their order
