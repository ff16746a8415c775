"""Checks by rule of a question and its answer; each returns the reason to refuse them, or "".

They are made for English. `docs/rewriting.md` says how often they are wrong.
"""

import re

from lit_unlearn.data.passages import FILL_IN
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.scores import is_correct
from lit_unlearn.rewriting.source_texts import QA
from lit_unlearn.rewriting.words import STOP_WORDS, content_words, names, words
from lit_unlearn.utils.text import fold

__all__ = ["form_problem", "standalone_problem", "support_problem"]

_LONGEST_QUESTION, _LONGEST_ANSWER = 80, 120  # words
_SHORT_ANSWER = 6  # words; a longer answer may well repeat the question
_STEM = 5  # first letters by which words are compared: "directed" equals "director"

_SOURCE = r"(?:passages?|texts?|excerpts?|paragraphs?|extracts?|snippets?|articles?|sections?"
_SOURCE += r"|documents?|conversations?|dialogues?|above|context|sentences?|transcripts?)"
_MENTIONS = re.compile(
    rf"\baccording to (?:the|this|that) (?:\w+ )?(?:{_SOURCE}|author|speaker|user|narrator)\b"
    rf"|\b(?:in|from|by|of) (?:the|this) (?:given |above |following |provided )?{_SOURCE}\b"
    r"|\b(?:the|this) (?:given |above |provided )?(?:passage|text|excerpt|paragraph|snippet)s?\b"
    rf"|\b(?:the|this) (?:given |above |provided )?{_SOURCE} "
    r"(?:says?|mentions?|states?|describes?|tells?|is about)\b"
    r"|\b(?:mentioned|described|discussed|stated|given|listed|quoted) (?:above|here|below)\b"
    r"|\b(?:does|did) the (?:author|writer|narrator|speaker|user|assistant) "
    r"(?:say|mention|state|describe|argue|think|suggest|claim|ask|want)\b"
)
_OPTIONS = re.compile(
    r"\b(?:which|what) (?:one )?(?:of (?:the following|these|the above)\b|option\b)"
    r"|\b(?:the following|all of the above|none of the above)\b"
)
_PERSONAL = frozenset(
    ("he", "she", "it", "they", "him", "her", "his", "hers", "its", "them", "their", "theirs")
)
_EXPLETIVE = re.compile(
    r"\bit(?= (?:called|true|possible|impossible|important|necessary|safe|better|best|take|takes"
    r"|mean|that|to|cost|costs|rain|rains|snow)\b)"
    r"|(?<=\btime is )it\b|(?<=\bis )it(?= \w+ (?:to|that)\b)"
)
_DEMONSTRATIVE = re.compile(r"\b(?:this|these|those(?! (?:who|whose|that|of|in|with|from)\b))\b")
_ASKED = re.compile(r"\b(?:what|which|whose|how (?:many|much))\b(?: [\w'-]+)?")
_NAMELESS = frozenset(
    ("name", "names", "title", "year", "date", "day", "time", "place", "number", "kind", "type")
)
_PERSONS = frozenset(("he", "she", "him", "her", "his", "hers"))
_SPOKEN = re.compile(r"\b(?:i|me|my|we|us|our)\b")
_CONTINUES = re.compile(
    r"^(?:that|while there|then|later|afterwards|however|instead|also|in addition|for instance"
    r"|for example|as a result|therefore|thus|but|and|or|so)\b"
)
_DATE = re.compile(
    r"\d+|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday"
)
_GENERIC = re.compile(
    r"\bthe (?:man|woman|boy|girl|couple|company|organi[sz]ation|film|movie|song|album|book|novel"
    r"|story|play|show|series|episode|season|team|band|group|character|city|town|village|place"
    r"|building|ship|war|battle|game|match|event|project|study|author|singer|actor|actress|player"
    r"|writer|director|collection|main character|protagonist)\b"
    r"(?! (?:of|that|which|who|in|on|with|for|from|at|to|by|called|named|born))"
)


def form_problem(qa: QA, *, written: bool = False) -> str:
    """Refuse a pair that is not a question with an answer, or a question that gives it away.

    A question that a model has written must have a question mark; people write requests too.
    """
    question, answer = qa.question.strip(), qa.answer.strip()
    if not words(question) or not answer:
        return "the question or the answer is empty"
    if written and "?" not in question:
        return "it asks nothing"
    if len(question.split()) > _LONGEST_QUESTION or len(answer.split()) > _LONGEST_ANSWER:
        return "the question or the answer is too long"
    if is_refusal(answer):
        return "the answer declines"
    if len(answer.split()) <= _SHORT_ANSWER and is_correct(question, [answer]):
        return "the question gives its answer away"
    if fold(question) == fold(answer):
        return "the answer repeats the question"
    return ""


def standalone_problem(question: str) -> str:
    """Refuse a question that cannot be understood without its source."""
    folded = " ".join(fold(question).split())
    for pattern, what in ((_MENTIONS, "its source"), (_OPTIONS, "a list of options")):
        found = pattern.search(folded)
        if found:
            return f"it speaks of {what}: {found[0]!r}"
    blank = question.startswith(FILL_IN)
    text = question.removeprefix(FILL_IN)
    return (_incomplete(text) if blank else "") or _dangling(text)


def _incomplete(sentence: str) -> str:
    """Refuse a sentence with a blank that needs the sentences before it."""
    folded = fold(sentence)
    found = _SPOKEN.search(folded) or _CONTINUES.search(folded)
    if found:
        return f"{found[0]!r} needs the sentences before it"
    person = next((w for w in re.finditer(r"[a-z']+", folded) if w[0] in _PERSONS), None)
    before = names(sentence[: person.start()], incomplete=True) if person else []
    if person and all(_DATE.fullmatch(word) for name in before for word in words(name)):
        return f"{person[0]!r} refers to nothing in the sentence"
    return ""


def _dangling(question: str) -> str:
    """Refuse a pronoun, or an expression such as "the man", that refers to nothing before it."""
    asked = " ".join(fold(question).split())
    plain = _EXPLETIVE.sub("", asked)
    for word in re.finditer(r"[a-z']+", plain):
        # a pronoun cannot refer to the words that are asked for
        before = content_words(_ASKED.sub("", plain[: word.start()])) - _NAMELESS
        if word[0] in _PERSONAL and not before:
            return f"{word[0]!r} refers to nothing in the question"
    demonstrative = _DEMONSTRATIVE.search(asked)
    if demonstrative and not re.search(r"\w[,.;:]", asked[: demonstrative.start()]):
        return f"{demonstrative[0]!r} refers to nothing in the question"
    generic = _GENERIC.search(asked)
    if generic and not names(question):
        return f"{generic[0]!r} is not named in the question"
    return ""


def support_problem(qa: QA, text: str, least: float) -> str:
    """Refuse an answer that its source does not support.

    The source must contain all names and numbers of question and answer, and at least the share
    ``least`` (0 to 1) of the answer's other words, without stop words and those of the question.
    Words are compared by their first five letters.
    """
    whole = f" {' '.join(words(text))} "
    for kind, stated in (("question", qa.question), ("answer", qa.answer)):
        for name in names(stated):
            own = [word for word in words(name) if word not in STOP_WORDS]
            if any(f" {word} " not in whole for word in own):
                return f"{name!r} of the {kind} is not in the source"
    asked = {word[:_STEM] for word in content_words(qa.question)}
    new = {word[:_STEM] for word in content_words(qa.answer)} - asked
    if not new:
        return "the answer says nothing that the question does not say"
    share = len(new & {word[:_STEM] for word in words(text)}) / len(new)
    return "" if share >= least else f"only {share:.0%} of the answer's words are in the source"
