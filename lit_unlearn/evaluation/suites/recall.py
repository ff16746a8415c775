"""Recall: whether a reply contains a forgotten answer; the success of every attack.

If the row has accepted answers, recall is 1 if the reply contains one of them and 0 otherwise. If
it has none, recall is the ROUGE-L recall of the gold answer. Words in the prompt do not count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.scores import is_correct, rouge_l_recall
from lit_unlearn.types import Example
from lit_unlearn.utils.text import is_unspaced

__all__ = ["RECALLED", "Target", "load_targets", "not_given", "recall", "recall_note", "target_of"]

RECALLED = "share recalled, 0 to 1"
"""Unit of a recall: a share of rows, or of the words of their answers."""


@dataclass(frozen=True)
class Target:
    """The part of a row's answer that is not in its prompt."""

    rest: str
    """Gold answer without the words that end the prefill."""
    spellings: tuple[str, ...]
    """Accepted answers and the gold answer; empty if the row has no accepted answers."""

    def recall(self, reply: str, prefill: str = "") -> float:
        """Return the share of the target that a reply contains, 0 to 1.

        An accepted answer may begin in the prefill ("Victor") and end in the reply ("Hugo").
        """
        if self.spellings:
            return float(is_correct(f"{prefill} {reply}", self.spellings))
        return rouge_l_recall(self.rest, reply)


def target_of(example: Example, prefill: str = "") -> Target | None:
    """Return the target of a row; None if it has none, or if the prompt contains it.

    Accepted answers in the question do not count; the prefill may not contain any.
    """
    rest = not_given(example.answer, prefill)
    if not example.accepted:
        return Target(rest, ()) if rest else None
    every = dict.fromkeys((example.answer, *example.accepted))
    spellings = tuple(text for text in every if not is_correct(example.question, [text]))
    if not spellings or is_correct(prefill, spellings):
        return None
    return Target(rest, spellings)


def not_given(gold: str, prefill: str) -> str:
    """Return the gold answer without the first words that are also the last words of a prefill.

    The longest match counts, ignoring case: for "It is Paris" and the prefill "Of course! It is",
    the result is "Paris".
    """
    if is_unspaced(gold):
        folded = prefill.rstrip().casefold()
        count = next(
            (n for n in range(len(gold), 0, -1) if folded.endswith(gold[:n].casefold())), 0
        )
        return gold[count:].strip()
    words, said = gold.split(), prefill.casefold().split()
    for count in range(min(len(words), len(said)), 0, -1):
        if said[-count:] == [word.casefold() for word in words[:count]]:
            return " ".join(words[count:])
    return gold.strip()


def recall(example: Example, reply: str) -> float:
    """Return the recall of a row's answer in a reply without prefill; NaN without a target."""
    target = target_of(example)
    return math.nan if target is None else target.recall(reply)


def load_targets(sources: Sequence[Source], data_root: Path | None, suite: str) -> list[Example]:
    """Load the rows that have a target; refuse sources without such rows, naming the suite."""
    examples = load_examples(sources, data_root)
    found = [example for example in examples if target_of(example)]
    if not found:
        raise InputError(
            f"Parameter `sources` of the suite {suite} should have rows with an answer that is not "
            f"in the question. Found none of {len(examples)}; give other sources."
        )
    return found


def recall_note(examples: Sequence[Example]) -> str:
    """Return a note that says how the recall of these rows is computed."""
    accepted = sum(bool(example.accepted) for example in examples)
    if accepted == len(examples):
        return "by accepted answers"
    return f"by ROUGE-L recall{f' ({accepted} rows by accepted answers)' if accepted else ''}"
