"""Typed values of a raw row, with errors that name the row, the value and the repair."""

from lit_unlearn.data.raw_rows import RawRow, bad_row, suggestion
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain

__all__ = ["EXPECTED_KEYS", "checked_text", "find_key", "text_of", "texts_of", "wrong_type"]

EXPECTED_KEYS: dict[Domain, tuple[tuple[str, ...], ...]] = {
    "question_answer": (
        ("question", "query", "prompt"),
        ("answer", "answers", "completion", "response"),
    ),
    "multiple_choice": (("question", "query", "prompt"), ("choices", "option1"), ("answer",)),
    "passage": (("text", "passage"),),
    "dialogue": (("messages", "dialogue", "conversations", "conversation"),),
    "instruction": (("instruction", "prompt"), ("output", "response", "answer", "completion")),
    "preference": (("prompt", "question", "messages"), ("chosen",), ("rejected",)),
}
"""Keys that the rows of a domain must have; in each group, the first name found is read."""

_ANSWER_KEYS = ("answer", "answers", "output", "response", "completion")


def _expected_keys(domain: Domain) -> str:
    """Return a domain's keys as text: ``question (or query, prompt) and answer (or answers)``."""
    return " and ".join(_group_text(names) for names in EXPECTED_KEYS[domain])


def _group_text(names: tuple[str, ...]) -> str:
    return f"{names[0]} (or {', '.join(names[1:])})" if len(names) > 1 else names[0]


def find_key(row: RawRow, names: tuple[str, ...], domain: Domain) -> str:
    """Return the first of ``names`` that the row has, or raise an error with the keys found."""
    key = next((name for name in names if name in row.values), None)
    if key is not None:
        return key
    found = list(row.values)
    close = next((guess for name in names if (guess := suggestion(name, found))), "")
    repair = f"rename the column, or set `columns: {{{names[0]}: <its name here>}}` of the source"
    for other, groups in EXPECTED_KEYS.items():
        if all(any(name in row.values for name in group) for group in groups):
            repair = f"set `domain: {other}`, which has these keys"
            break
    if names[0] in _ANSWER_KEYS:
        repair += f"; if it has only questions, set `columns: {{{_ANSWER_KEYS[0]}: ''}}`"
    raise bad_row(
        row.location,
        f"a row of domain {domain} should have {_expected_keys(domain)}. Found the keys "
        f"{', '.join(map(repr, found)) or 'none'}, without {_group_text(names)}{close}; {repair}.",
    )


def text_of(row: RawRow, key: str) -> str:
    """Return the text of one column, without white space around it; it must not be empty."""
    return checked_text(row, f"key {key!r}", row.values[key])


def checked_text(row: RawRow, what: str, value: object) -> str:
    """Return a text without white space around it; ``what`` names it in errors.

    Raises:
        InputError: The value is not a text, is empty, or is not valid Unicode.
    """
    if not isinstance(value, str):
        raise wrong_type(row, what, "text", value)
    text = value.strip()
    if not text:
        raise bad_row(
            row.location,
            f"{what} should be text. Found an empty text; fill it in, or set `on_bad_row: skip`.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad_row(
            row.location,
            f"{what} should be Unicode text. Found half a surrogate pair "
            f"{text[error.start]!a} at character {error.start}; repair the file, or set "
            "`on_bad_row: skip`.",
        ) from None
    return text


def texts_of(row: RawRow, key: str) -> list[str]:
    """Return the texts of a column, which holds one text or a list; none without the column."""
    value = row.values.get(key, [])
    values = value if isinstance(value, list) else [value]
    return [checked_text(row, f"key {key!r}", entry) for entry in values]


def wrong_type(row: RawRow, what: str, expected: str, found: object) -> InputError:
    """Return the error about a value of the wrong type."""
    kind = type(found).__name__
    return bad_row(
        row.location,
        f"{what} should be {expected}. Found {kind} {found!r:.60}; repair the row, or set "
        "`on_bad_row: skip`.",
    )
