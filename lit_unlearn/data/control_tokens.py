"""Warning about rows that contain control tokens, which are encoded as ordinary text."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest

from lit_unlearn.types import Example

__all__ = ["example_texts", "likely_control_token", "report_control_tokens"]

log = logging.getLogger(__name__)

_LIKELY = re.compile(
    r"<\|[^|<>\s]+\|>|</?s>|<(?:bos|eos|pad|unk|(?:start|end)_of_turn)>|\[/?INST\]"
)


def report_control_tokens(
    where: str,
    rows: Iterable[tuple[str, Iterable[str]]],
    find: Callable[[Iterable[str]], str | None],
) -> None:
    """Log one warning if texts of rows contain control tokens; it names the first row.

    Args:
        where: Objective, suite or source of the rows.
        rows: Id and texts of each row.
        find: Function that returns the first control token in some texts, or None.
    """
    found = [(token, row_id) for row_id, texts in rows if (token := find(texts))]
    if found:
        log.warning(
            "%s: %d rows hold the text of a control token, the first %r in row %r. Such texts are "
            "encoded as ordinary text and do not end a turn; remove them if that is wrong.",
            *(where, len(found), *found[0]),
        )


def example_texts(
    examples: Iterable[Example], answers: Sequence[str | None] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield id and texts of each example; ``answers`` are assigned answers, such as refusals."""
    for example, answer in zip_longest(examples, answers):
        turns = [turn.content for turn in example.turns]
        others = [*example.paraphrases, *example.distractors, *example.rejected]
        yield example.example_id, [*turns, example.answer, *others, answer or ""]


def likely_control_token(texts: Iterable[str]) -> str | None:
    """Return the first control token of common models in the texts; for an unknown tokenizer."""
    found = (_LIKELY.search(text) for text in texts)
    return next((match[0] for match in found if match), None)
