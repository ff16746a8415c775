"""Prefills: beginnings of an answer that an attacker writes in the assistant's place."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.types import Example
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.text import count_words, first_words, is_unspaced

__all__ = ["Prefills", "read_openers", "read_refusals"]


@dataclass
class Prefills:
    """Prefills with which the rows of an objective are trained.

    Args:
        openers: Affirmative openers such as "The answer is"; or `builtin:train`, `builtin:eval`
            for the families that come with the package.
        answer_words: Add the first 1 to this many words of the row's answer; 0 for none. A row that
            must be answered is trained to go on with the rest of its answer.
        combine: Whether to add each opener followed by the first `answer_words` words.
        unprefilled: Number of empty prefills among those of a row. They are for rows that must be
            answered, with and without prefill: 8 beside 8 openers is half.
        candidates: Number of a row's prefills that are candidates in one step; the inner
            maximisation chooses among them. Each visit of a row takes the next ones.
    """

    openers: list[str] | str = field(default_factory=list)
    answer_words: int = 0
    combine: bool = False
    unprefilled: int = 0
    candidates: int = 2

    def __post_init__(self) -> None:
        if self.candidates < 1 or min(self.answer_words, self.unprefilled) < 0:
            raise InputError(
                "Parameters of Prefills: `candidates` should be at least 1, `answer_words` and "
                f"`unprefilled` at least 0. Found {self.candidates}, {self.answer_words} and "
                f"{self.unprefilled}."
            )
        if not self.openers and not self.answer_words:
            raise InputError(
                "Prefills should have `openers`, `answer_words`, or both. Found neither; try "
                "`openers: builtin:train`."
            )
        read_openers(self.openers)

    def of(self, example: Example, answer: str | None = None) -> list[str]:
        """Return all prefills of one row: openers, beginnings of its answer, and both joined.

        A beginning always leaves at least one word of the answer to predict; without an answer it
        is the gold one.
        """
        openers = read_openers(self.openers)
        text = example.answer if answer is None else answer
        longest = min(self.answer_words, count_words(text) - 1)
        beginnings = [first_words(text, count) for count in range(1, longest + 1)]
        both = [f"{opener} {beginnings[-1]}" for opener in openers if self.combine and beginnings]
        found = [*openers, *beginnings, *both, *[""] * self.unprefilled]
        if not found:
            raise InputError(
                f"Row {example.example_id!r} has no prefill: its answer {example.answer!r} is too "
                "short for `answer_words`. Give Prefills some `openers` as well."
            )
        return found

    def rest_of(self, answer: str, prefill: str) -> str:
        """Return what follows of the answer behind a prefill that has its first words."""
        given = prefill.removeprefix(self.opener_of(prefill)).strip()
        if is_unspaced(answer):
            return answer.removeprefix(given).strip()
        known = given.split()
        return answer.split(maxsplit=len(known))[-1] if known else answer

    def opener_of(self, prefill: str) -> str:
        """Return the opener of a prefill, which has no words of the answer; contexts may use it."""
        known = [o for o in read_openers(self.openers) if prefill.startswith(o)]
        return max(known, key=len, default="")


@cache
def _builtin(name: str) -> Any:
    """Return the content of a JSON file that comes with the package."""
    return json.loads(
        resources.files("lit_unlearn.data").joinpath("builtin", name).read_text("utf-8")
    )


def read_openers(openers: Sequence[str] | str, parameter: str = "openers") -> list[str]:
    """Return the list itself, or the built-in family of the name that a parameter gives."""
    if not isinstance(openers, str):
        return list(openers)
    families: dict[str, list[str]] = _builtin("prefills.json")
    name = openers.removeprefix("builtin:")
    if name not in families:
        raise InputError(
            f"Parameter `{parameter}` should be a list of texts or one of "
            f"{', '.join('builtin:' + f for f in families)}. Found {openers!r}."
        )
    return families[name]


def read_refusals(refusals: Sequence[str] | str) -> list[str]:
    """Return the list itself, the built-in list for the name ``builtin``, or those of a file.

    A file holds a sentence per line (.txt, .jsonl), a JSON array (.json), or objects with one text.

    Raises:
        InputError: There is no such file, it holds something else, or the list is empty.
    """
    if refusals == "builtin":
        built_in: list[str] = _builtin("refusals.json")
        return built_in
    if isinstance(refusals, str):
        return _refusals_of(local_path(refusals))
    if not refusals:
        raise InputError(
            "Parameter `refusals` should be a list of at least one sentence, `builtin`, or a file "
            f"of sentences. Found {refusals!r}."
        )
    return list(refusals)


def _refusals_of(file: Path) -> list[str]:
    """Return the sentences of a file."""
    wanted = "`builtin`, a list of sentences, or a file of them (.txt, .json, .jsonl)"
    try:
        text = file.read_text("utf-8-sig")
        found = json.loads(text) if file.suffix == ".json" else text.split("\n")
        entries = [_entry(line) for line in (found if isinstance(found, list) else [found])]
        json.dumps(entries, ensure_ascii=False).encode()  # fails at half a surrogate pair
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"Parameter `refusals` should be {wanted}. Found {str(file)!r}, which cannot be read "
            f"as one: {error}."
        ) from error
    sentences = [entry.strip() for entry in entries if isinstance(entry, str) and entry.strip()]
    odd = next((entry for entry in entries if not isinstance(entry, str)), None)
    if odd is not None or not sentences:
        raise InputError(
            f"Parameter `refusals` should be {wanted}. Found {str(file)!r} with "
            f"{'no sentence' if odd is None else f'{odd!r:.60}'}; give each as a text, or as an "
            "object with one text."
        )
    return sentences


def _entry(entry: object) -> object:
    """Return the sentence of an entry; a line that is no JSON is a sentence itself."""
    if isinstance(entry, str) and entry.lstrip().startswith(("{", '"')):
        try:
            entry = json.loads(entry)
        except ValueError:
            return {} if str(entry).lstrip().startswith("{") else entry
    texts = list(entry.values()) if isinstance(entry, dict) else []
    return texts[0] if len(texts) == 1 else entry
