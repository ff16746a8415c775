"""Functions that suites share: make probes, pair them with outcomes, means with intervals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Self

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Generation,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Row,
    Start,
    Subject,
    Suite,
)
from lit_unlearn.metrics.functional.statistics import bootstrap_mean, clopper_pearson, mean
from lit_unlearn.types import Example, Turn

__all__ = ["SHARE", "StartedSuite"]
__all__ += ["builtin_forget", "check_same_rows", "mean_figure", "mean_of_values", "probe_of"]
__all__ += ["row_of", "subject_outcomes"]

SHARE = "share of rows, 0 to 1"


class StartedSuite(Suite):
    """Suite that reads the start model beside the evaluated model, if there is one."""

    _start: Start | None = None

    def with_start(self, start: Start) -> Self:
        made = copy(self)
        made._start = start
        return made

    def _start_key(self) -> str:
        """Return a text that changes with the start model; refuse one that cannot be found."""
        return "" if self._start is None else self._start.key()

    def _beside(self, subject: Subject) -> Subject | None:
        """Return the start model, which may be the subject itself; None without one."""
        if self._start is None:
            return None
        if not subject.fingerprint.startswith(self._start.key()):
            return self._start.load()
        return subject if subject.condition is None else replace(subject, condition=None)


def builtin_forget() -> list[Source]:
    """Return the default source of rows whose answers should be forgotten."""
    return [Source("builtin:forget", split="eval")]


def probe_of(
    example: Example,
    group: str,
    generation: Generation | None = None,
    candidates: Mapping[str, str] | None = None,
    *,
    turns: tuple[Turn, ...] | None = None,
    prefill: str = "",
    part: str = "",
) -> Probe:
    """Make the probe ``<group>/<example's id>`` or ``<group>/<example's id>/<part>``.

    The other parameters are those of `Probe`; by default `turns` are the example's. `part`
    distinguishes the probes of an example that is asked several times in a group.
    """
    probe_id = "/".join(text for text in (group, example.example_id, part) if text)
    asked, texts = example.turns if turns is None else turns, candidates or {}
    return Probe(probe_id, group, example, asked, example.plain, prefill, texts, generation)


def subject_outcomes(probes: Probes, outcomes: Outcomes) -> list[tuple[Probe, Outcome]]:
    """Pair each probe with its outcome on the unchanged model; refuse outcomes of other probes."""
    found = outcomes.get("", ())
    if [outcome.probe_id for outcome in found] != [probe.probe_id for probe in probes]:
        raise InputError(
            f"Parameter `outcomes` should hold, under the name '', one outcome for each of the "
            f"{len(probes)} probes in their order. Found {len(found)} or another order; give the "
            "outcomes of these probes."
        )
    return list(zip(probes, found, strict=True))


def row_of(probe: Probe, scores: Mapping[str, float], reply: str = "") -> Row:
    """Return the row of a probe, with its last turn and the gold answer."""
    asked, gold = probe.turns[-1].content, probe.example.answer
    return Row(probe.probe_id, probe.group, scores, asked, gold, reply)


def check_same_rows(ours: Iterable[str], theirs: Iterable[str], what: str, repair: str) -> None:
    """Check that two models have the same row ids; `what` names the rows in the error message."""
    own, others = set(ours), set(theirs)
    if odd := own ^ others:
        raise InputError(
            f"Parameter `reference` should hold the same {len(own)} {what}. Found {len(others)}, "
            f"and {min(odd)!r} in only one of the two; evaluate the retain model with {repair}."
        )


def mean_figure(
    name: str, rows: Sequence[Row], unit: str = SHARE, better: Better = "neither", note: str = ""
) -> Figure:
    """Return the mean of a score over the rows that have it; the score ends the figure's `name`."""
    score = name.rpartition("/")[-1]
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row.asked_of or row.row_id, []).append(row.scores.get(score, math.nan))
    return mean_of_values(name, values, unit, better, note)


def mean_of_values(
    name: str,
    values: Mapping[str, Sequence[float]],
    unit: str = SHARE,
    better: Better = "neither",
    note: str = "",
) -> Figure:
    """Return a mean over questions with its 95 % interval; for the other arguments see `Figure`.

    The values of one question (several replies) are averaged first, so that the interval is over
    questions; NaN is left out. The interval is Clopper and Pearson's if all means are 0 or 1, and
    bootstrapped over questions otherwise.
    """
    known = [[value for value in found if not math.isnan(value)] for found in values.values()]
    means = [mean(found) for found in known if found]
    if not means:
        why = "; ".join(text for text in (note, "no row on which this is defined") if text)
        return Figure(name, math.nan, unit, 0, better=better, note=why)
    binary = set(means) <= {0.0, 1.0}
    ends = clopper_pearson(round(sum(means)), len(means)) if binary else bootstrap_mean(means)
    return Figure(name, mean(means), unit, len(means), ends.low, ends.high, better, note)
