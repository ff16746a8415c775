"""A multiple-choice row as a question with lettered options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from lit_unlearn.data.converters import options_of
from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.types import Example
from lit_unlearn.utils.digests import text_digest

__all__ = ["RIGHT", "Question", "is_right", "lettered", "placed", "question_of"]

RIGHT = "answer"
_REQUEST = "Answer with the letter of the right option."


@dataclass(frozen=True)
class Question:
    """The options of one row, in the order of the prompt."""

    row: RawRow
    options: tuple[str, ...]
    right: int
    """Index of the right option."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of candidates: ``answer`` for the right option, ``option/2`` for a wrong one.

        A further option with the text of the right one is also right: ``answer/2``.
        """
        text = self.options[self.right]
        return tuple(
            RIGHT if i == self.right else f"{RIGHT if option == text else 'option'}/{i}"
            for i, option in enumerate(self.options)
        )

    def lettered(self, question: str) -> str:
        """Return the question, its lettered options, and the request for a letter."""
        return lettered(question, self.options)


def lettered(question: str, options: Sequence[str]) -> str:
    """Return a question, its lettered options, and the request for a letter."""
    lines = [f"{ascii_uppercase[i]}. {option}" for i, option in enumerate(options)]
    return "\n".join([question, *lines, _REQUEST])


def question_of(row: RawRow, *, shuffle: bool) -> Question:
    """Return the options of a row, in their order or shuffled with a seed from their texts."""
    options, right = options_of(row)
    order = list(range(len(options)))
    if shuffle:
        joined = "\n".join(options)
        order.sort(key=lambda i: text_digest(f"{joined}\n{i}"))
    return Question(row, tuple(options[i] for i in order), order.index(right))


def is_right(name: str) -> bool:
    """Return whether the candidate with this name is a right option."""
    return name.split("/")[0] == RIGHT


def placed(example: Example, candidates: Mapping[str, str]) -> list[str]:
    """Return the option texts: the right one at its position, the wrong ones in any order.

    Scoring a reply needs no more: a letter is right by its position, a text if it is the right one.
    A repeated option is an empty text.
    """
    wrong = iter(example.distractors)
    return [example.answer if is_right(name) else next(wrong, "") for name in candidates]
