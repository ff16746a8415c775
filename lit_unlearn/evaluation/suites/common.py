"""What suites share: a question as a probe, the recall of its answer, and means with intervals.

*Recall* is the figure of success wherever an answer should be gone: 1 or 0 where the row has
accepted answers (does one of them stand in the reply?), ROUGE-L recall of the gold answer where it
has none. Only what the prompt does not give away counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Better, Figure, Generation, Outcome, Probe
from lit_unlearn.metrics.functional.scores import is_correct, rouge_l_recall
from lit_unlearn.metrics.functional.statistics import bootstrap_mean, clopper_pearson, mean
from lit_unlearn.types import Example, Turn

SHARE = "share of rows, 0 to 1"
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
        """How much of it a reply holds, 0 to 1.

        Args:
            reply: The model's words.
            prefill: What the reply continues. An accepted answer may begin in it ("Victor") and
                end in the reply ("Hugo"); none stands wholly in it.
        """
        if self.spellings:
            return float(is_correct(f"{prefill} {reply}", self.spellings))
        return rouge_l_recall(self.rest, reply)


def target_of(example: Example, prefill: str = "") -> Target | None:
    """What is to be recalled of a row; None where nothing is, or the prompt gives it away.

    Accepted answers that stand in the question do not count; one in the prefill gives all away.
    """
    rest = not_given(example.answer, prefill)
    if not example.accepted:
        return Target(rest, ()) if rest else None
    every = dict.fromkeys((example.answer, *example.accepted))
    spellings = tuple(text for text in every if not is_correct(example.question, [text]))
    if not spellings or is_correct(prefill, spellings):
        return None
    return Target(rest, spellings)


def answerable(examples: Sequence[Example], suite: str) -> list[Example]:
    """The rows with something to be recalled.

    Raises:
        InputError: There is none.
    """
    found = [example for example in examples if target_of(example)]
    if not found:
        raise InputError(
            f"Parameter `sources` of the suite {suite} should have rows with an answer that does "
            f"not stand in the question. Found none of {len(examples)}; give other sources."
        )
    return found


def not_given(gold: str, prefill: str) -> str:
    """The gold answer from the first word on that a prefill does not give.

    The prefill's last words are looked for as the first ones of the gold answer, the longest
    match counts, capitals do not: of "It is Paris" after "Of course! It is" remains "Paris".
    """
    words, given = gold.split(), prefill.casefold().split()
    for count in range(min(len(words), len(given)), 0, -1):
        if given[-count:] == [word.casefold() for word in words[:count]]:
            return " ".join(words[count:])
    return gold.strip()


def recall(example: Example, reply: str) -> float:
    """Recall of a row's answer in a reply without prefill; NaN where it has none to be recalled."""
    target = target_of(example)
    return math.nan if target is None else target.recall(reply)


def ask(
    example: Example,
    group: str,
    generation: Generation,
    *,
    turns: tuple[Turn, ...] | None = None,
    prefill: str = "",
    part: str = "",
) -> Probe:
    """A probe that asks for a reply.

    Args:
        example: The row.
        group: First part of the probe's id.
        generation: How the reply is made.
        turns: The conversation; None takes the row's own.
        prefill: As in `Probe`.
        part: Last part of the id, for a row that is asked several times in one group.
    """
    return Probe(
        probe_id="/".join(text for text in (group, example.example_id, part) if text),
        group=group,
        example=example,
        turns=example.turns if turns is None else turns,
        plain=example.plain,
        prefill=prefill,
        generation=generation,
    )


def with_question(turns: tuple[Turn, ...], question: str) -> tuple[Turn, ...]:
    """The conversation with another last turn."""
    return (*turns[:-1], Turn(turns[-1].role, question))


def subject_outcomes(
    probes: Sequence[Probe], outcomes: Mapping[str, Sequence[Outcome]]
) -> list[tuple[Probe, Outcome]]:
    """Each probe with what the unchanged model did.

    Raises:
        InputError: The outcomes are not those of the probes.
    """
    found = outcomes.get("", ())
    if [outcome.probe_id for outcome in found] != [probe.probe_id for probe in probes]:
        raise InputError(
            f"Parameter `outcomes` should hold, under the name '', one outcome for each of the "
            f"{len(probes)} probes in their order. Found {len(found)} or another order; score a "
            "suite with the outcomes of its own probes."
        )
    return list(zip(probes, found, strict=True))


def mean_figure(
    name: str,
    values: Sequence[float],
    keys: Sequence[str],
    *,
    unit: str = SHARE,
    better: Better = "neither",
    note: str = "",
) -> Figure:
    """The mean over rows with its 95 % interval.

    Values of one row (several replies) are averaged first, so that the interval is about rows.
    It is Clopper and Pearson's where every row has 0 or 1, and bootstrapped over rows otherwise.

    Args:
        name: Name of the figure.
        values: NaN is left out.
        keys: The row of each value.
        unit: As in `Figure`.
        better: As in `Figure`.
        note: As in `Figure`.
    """
    by_row: dict[str, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        if not math.isnan(value):
            by_row.setdefault(key, []).append(value)
    means = [mean(found) for found in by_row.values()]
    if not means:
        why = "; ".join(text for text in (note, "no row on which this is defined") if text)
        return Figure(name, math.nan, unit, 0, better=better, note=why)
    binary = set(means) <= {0.0, 1.0}
    ends = clopper_pearson(round(sum(means)), len(means)) if binary else bootstrap_mean(means)
    return Figure(name, mean(means), unit, len(means), ends.low, ends.high, better, note)


def recall_note(examples: Sequence[Example]) -> str:
    """How recall was decided for these rows."""
    accepted = sum(bool(example.accepted) for example in examples)
    if accepted == len(examples):
        return "by accepted answers"
    return f"by ROUGE-L recall{f' ({accepted} rows by accepted answers)' if accepted else ''}"
