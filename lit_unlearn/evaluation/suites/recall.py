"""Recall: whether a forgotten answer is in a reply, the success of every attack.

1 or 0 where the row has accepted answers (one of them is in the reply or not), ROUGE-L recall of
the gold answer where it has none. Words that the prompt gives away do not count.
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
"""Unit of a recall, which is of rows or of the words of their answers."""


@dataclass(frozen=True)
class Target:
    """The part of a row's answer that its prompt does not give away."""

    rest: str
    """The gold answer without the words at which a prefill breaks off."""
    spellings: tuple[str, ...]
    """Accepted answers, the gold one included; empty where the row has none besides it."""

    def recall(self, reply: str, prefill: str = "") -> float:
        """Return how much of the target is in a reply, 0 to 1.

        An accepted answer may begin in the prefill that the reply continues ("Victor") and end in
        the reply ("Hugo"); none is wholly in the prefill.
        """
        if self.spellings:
            return float(is_correct(f"{prefill} {reply}", self.spellings))
        return rouge_l_recall(self.rest, reply)


def target_of(example: Example, prefill: str = "") -> Target | None:
    """Return the target of a row; None where it has none, or the prompt gives it away.

    Accepted answers that are in the question do not count; one in the prefill gives all away.
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
    """Return the gold answer from the first word on that a prefill does not give.

    The last words of the prefill are compared with the first ones of the gold answer, ignoring
    case; the longest match counts: of "It is Paris" after "Of course! It is" remains "Paris".
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
    """Return the recall in a reply without prefill; NaN for a row without target."""
    target = target_of(example)
    return math.nan if target is None else target.recall(reply)


def load_targets(sources: Sequence[Source], data_root: Path | None, suite: str) -> list[Example]:
    """Load the rows that have a target; refuse sources without any, in the name of the suite."""
    examples = load_examples(sources, data_root)
    found = [example for example in examples if target_of(example)]
    if not found:
        raise InputError(
            f"Parameter `sources` of the suite {suite} should have rows with an answer that is not "
            f"in the question. Found none of {len(examples)}; give other sources."
        )
    return found


def recall_note(examples: Sequence[Example]) -> str:
    """Say how the recall of these rows was decided."""
    accepted = sum(bool(example.accepted) for example in examples)
    if accepted == len(examples):
        return "by accepted answers"
    return f"by ROUGE-L recall{f' ({accepted} rows by accepted answers)' if accepted else ''}"
