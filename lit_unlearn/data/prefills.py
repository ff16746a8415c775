"""Prefills: beginnings of an answer that an attacker writes in the assistant's place."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lit_unlearn.errors import InputError, check_fields, ranged
from lit_unlearn.types import Example
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.text import count_words, first_words, is_unspaced

__all__ = ["Prefill", "Prefills", "read_openers", "read_refusals"]


@dataclass(frozen=True)
class Prefill:
    """A beginning of a row's answer, and the rest of the answer."""

    text: str
    rest: str | None
    """Answer after the text; all of it if the text is not its beginning, None without answer."""
    opener: str = ""
    """Part of the text without words of the answer; contexts may use it."""


@dataclass
class Prefills:
    """Prefills with which the rows of an objective are trained.

    Args:
        openers: Affirmative openers such as "The answer is"; or `builtin:train`, `builtin:eval`,
            `builtin:validation` for the families that come with the package.
        answer_words: Maximum number of first words of the row's answer; each number from 1 gives a
            prefill, 0 gives none. A row that must be answered is trained to continue its answer.
        answer_share: The same maximum as a share of the answer's words, 0 to 1; the larger of the
            two applies. 1 gives all beginnings except the whole answer.
        combine: Whether to add each opener followed by the longest of these beginnings.
        unprefilled: Number of empty prefills of a row or, below 1, their share: 0.5 is half. For
            rows that must be answered with and without prefill.
        candidates: Number of a row's prefills that are candidates in one step; the inner
            maximisation chooses among them. Each visit of a row takes the next prefills.
    """

    openers: list[str] | str = field(default_factory=list)
    answer_words: int = ranged(0, 0)
    answer_share: float = ranged(0.0, 0, 1)
    combine: bool = False
    unprefilled: float = ranged(0, 0)
    candidates: int = ranged(2, 1)

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.openers or self.answer_words or self.answer_share):
            raise InputError(
                "Prefills should have `openers`, `answer_words` or `answer_share`. Found none; try "
                "`openers: builtin:train`."
            )
        read_openers(self.openers)

    def of(self, example: Example, answer: str | None = None) -> list[Prefill]:
        """Return all prefills of one row: openers, beginnings of its answer, and both joined.

        A beginning always leaves at least one word of the answer to predict. The default of
        ``answer`` is the gold answer.
        """
        text = example.answer if answer is None else answer
        known = [Prefill(o, _rest(text, o), o) for o in read_openers(self.openers)]
        words = count_words(text)
        longest = min(max(self.answer_words, int(self.answer_share * words)), words - 1)
        given = [first_words(text, count) for count in range(1, longest + 1)]
        begun = [Prefill(each, _rest_after(text, each)) for each in given]
        both = [
            Prefill(f"{first.opener} {last.text}", last.rest, first.opener)
            for first in known
            for last in begun[-1:]
            if self.combine
        ]
        found = [*known, *begun, *both]
        found += [Prefill("", text)] * self._unprefilled(len(found))
        if not found:
            raise InputError(
                f"Row {example.example_id!r} has no prefill: its answer {example.answer!r} is too "
                "short for `answer_words` or `answer_share`. Give Prefills some `openers` as well."
            )
        return found

    def _unprefilled(self, others: int) -> int:
        """Return the number of empty prefills of a row with this number of other prefills."""
        share = self.unprefilled
        return round(others * share / (1 - share)) if share < 1 else round(share)


def _rest(answer: str, opener: str) -> str:
    """Return the answer without an opener with which it begins."""
    rest = answer[len(opener) :]
    apart = opener[-1:].isalnum() and rest[:1].isalnum()
    return answer if not answer.startswith(opener) or apart else rest.strip() or answer


def _rest_after(answer: str, beginning: str) -> str:
    """Return the answer without its first words; it may have more spaces between them."""
    if is_unspaced(answer):
        return answer.removeprefix(beginning).strip()
    words = beginning.split()
    return answer.split(maxsplit=len(words))[-1]


@cache
def _builtin(name: str) -> Any:
    return json.loads(
        resources.files("lit_unlearn.data").joinpath("builtin", name).read_text("utf-8")
    )


def read_openers(openers: Sequence[str] | str, parameter: str = "openers") -> list[str]:
    """Return a list unchanged, or the built-in family of a name; errors name the parameter."""
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
    """Return a list unchanged, the built-in list for ``builtin``, or the sentences of a file.

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
    """Return the sentence of an entry; a line that is not JSON is the sentence."""
    if isinstance(entry, str) and entry.lstrip().startswith(("{", '"')):
        try:
            entry = json.loads(entry)
        except ValueError:
            return {} if str(entry).lstrip().startswith("{") else entry
    texts = list(entry.values()) if isinstance(entry, dict) else []
    return texts[0] if len(texts) == 1 else entry
