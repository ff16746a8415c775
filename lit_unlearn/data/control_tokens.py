"""Rows whose texts hold control tokens: they are encoded as ordinary text, and said once."""

import logging
from collections.abc import Iterable

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.types import Example

__all__ = ["report_control_tokens"]

log = logging.getLogger(__name__)


def report_control_tokens(where: str, encoder: Encoder, examples: Iterable[Example]) -> None:
    """Warn once of rows whose texts hold control tokens, with the first row.

    ``where`` names the objective or suite of the rows.
    """
    found = []
    for row in examples:
        turns = [turn.content for turn in row.turns]
        texts = [*turns, row.answer, *row.paraphrases, *row.distractors]
        if token := encoder.control_token(texts):
            found.append((token, row.example_id))
    if found:
        log.warning(
            "%s: %d rows hold the text of a control token, the first %r in row %r. Such texts are "
            "encoded as ordinary text and end no turn; clean the rows if they should not be there.",
            *(where, len(found), *found[0]),
        )
