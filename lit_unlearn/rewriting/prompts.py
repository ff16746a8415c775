"""Prompts for a model, and the JSON schemas of its replies; one function for each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Any

from lit_unlearn.rewriting.source_texts import QA, SourceText
from lit_unlearn.types import Turn
from lit_unlearn.utils.digests import json_digest

__all__ = ["PAIRS", "RATING", "SUPPORT", "SYSTEM", "TRUTH", "Ask", "Schema"]
__all__ += ["anchor", "confirm", "judge", "rate", "write"]

Schema = Mapping[str, Any]

SYSTEM = "You write and check questions for a data set. Reply with JSON only."
_ALONE = (
    "Each question must be clear to somebody who sees nothing else: it gives names instead of "
    '"he", "it" or "this", and never speaks of "the passage", "the text" or "the author".'
)
_RATE = (
    "How well does this passage suit questions with one short, certain answer about facts? Rate it "
    "from 1 (no facts, lists, fragments) to 5 (many clear facts about named people, places and "
    'things). Form of the reply: {"rating": 3}\n\nPassage:\n$text'
)
_WRITE = (
    "Write $count different questions about facts in the $kind below, each with its answer. $alone "
    "Each answer is one short sentence with facts of the $kind. Form of the reply: "
    '{"pairs": [{"question": "...", "answer": "..."}]}\n\n$heading:\n$text'
)
_OPEN = (
    "Turn this multiple-choice question into an open question that needs no options, and give its "
    "right answer as a short sentence. $alone Form of the reply: "
    '{"pairs": [{"question": "...", "answer": "..."}]}\n\n$text'
)
_JUDGE = (
    "$text\n\nQuestion: $question\nAnswer: $answer\n\nIs the question clear to somebody who does "
    "not see the text above? Does the text say that this is the answer? Form of the reply: "
    '{"clear": true, "supported": true}'
)
_ANCHOR = (
    "Question: $question\nAnswer: $answer\n\nWrite $count other questions of the same form, about "
    "other people, places or things of the same kind, which are as well known, each with its true "
    "answer as one short sentence. $alone Neither a question nor an answer may mention the answer "
    'above. Form of the reply: {"pairs": [{"question": "...", "answer": "..."}]}'
)
_CONFIRM = (
    "Question: $question\nAnswer: $answer\n\nIs the question clear by itself? Is the answer true? "
    'Form of the reply: {"clear": true, "true": true}'
)


def _object(**properties: Schema) -> Schema:
    """Return the schema of an object with exactly these properties."""
    closed = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **closed}


_TEXT: Schema = {"type": "string"}
_TRUTH: Schema = {"type": "boolean"}
_PAIR = _object(question=_TEXT, answer=_TEXT)
RATING = _object(rating={"type": "integer", "enum": [1, 2, 3, 4, 5]})
PAIRS = _object(pairs={"type": "array", "items": _PAIR})
SUPPORT = _object(clear=_TRUTH, supported=_TRUTH)
TRUTH = _object(clear=_TRUTH, true=_TRUTH)
_TOKENS_OF_TEXT = 48


@dataclass(frozen=True)
class Ask:
    """One request to a model."""

    task: str
    prompt: str
    schema: Schema
    frame: tuple[str, ...]
    """JSON of every reply of this form without its texts: the part before each text, and the part
    after the last. A single entry is the beginning of the reply."""
    max_tokens: int
    version: str
    """Digest of the prompt's words and schema."""

    @property
    def turns(self) -> tuple[Turn, Turn]:
        """Messages of the request."""
        return Turn("system", SYSTEM), Turn("user", self.prompt)


def rate(text: SourceText) -> Ask:
    """Ask how well a passage suits questions, from 1 to 5."""
    return _ask("rate", _RATE, RATING, ('{"rating":',), 8, text=text.text)


def write(text: SourceText, count: int) -> Ask:
    """Ask for questions with answers about a passage, a conversation or options."""
    if text.domain == "multiple_choice":
        return _pairs("open", _OPEN, 1, text=text.text)
    kind = "conversation" if text.domain == "dialogue" else "passage"
    fields = {"kind": kind, "heading": kind.capitalize(), "text": text.text}
    return _pairs("write", _WRITE, count, **fields)


def judge(text: SourceText, qa: QA) -> Ask:
    """Ask whether a question is clear by itself, and its source supports the answer."""
    fields = {"text": text.text, "question": qa.question, "answer": qa.answer}
    return _ask("judge", _JUDGE, SUPPORT, ('{"clear":',), 16, **fields)


def anchor(qa: QA, count: int) -> Ask:
    """Ask for neighbour questions of the same form, with their answers."""
    return _pairs("anchor", _ANCHOR, count, question=qa.question, answer=qa.answer)


def confirm(qa: QA) -> Ask:
    """Ask whether an anchor is clear and true."""
    fields = {"question": qa.question, "answer": qa.answer}
    return _ask("confirm", _CONFIRM, TRUTH, ('{"clear":',), 16, **fields)


def _pairs(task: str, template: str, count: int, **fields: str) -> Ask:
    first, between, last = '{"pairs": [{"question": "', '"}, {"question": "', '"}]}'
    texts = [first, *['", "answer": "', between] * count]
    frame = (*texts[:-1], last)
    tokens = 2 * count * _TOKENS_OF_TEXT
    fields |= {"count": str(count), "alone": _ALONE}
    return _ask(task, template, PAIRS, frame, tokens, **fields)


def _ask(
    task: str, template: str, schema: Schema, frame: tuple[str, ...], max_tokens: int, **fields: str
) -> Ask:
    version = f"{task}-{json_digest([SYSTEM, template, _ALONE, schema, frame[:1]])[:8]}"
    prompt = Template(template).substitute(fields)
    return Ask(task, prompt, schema, frame, max_tokens, version)
