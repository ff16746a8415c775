"""Effects of the factors of the interference experiment.

An effect is the difference between two levels of one factor, with all other factors equal: the mean
over matched arms for each seed, then mean and range over seeds. Only arms with all seeds count, so
that all seeds have the same arms.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from interference_runs import OUTCOMES, Run, mean

EFFECTS = (
    ("data", "form", "raw", "unified"),
    ("loss", "loss", "pull", "both"),
    ("loss", "loss", "push", "both"),
    ("weighting", "weighting", "sum", "pcgrad"),
    ("weighting", "weighting", "sum", "mgda"),
)
"""Kind of gain, factor, and two levels; the effect is the second level minus the first."""


class Effect(NamedTuple):
    """The effect of one factor on one outcome."""

    kind: str
    contrast: str
    outcome: str
    by_seed: tuple[float, ...]
    """Mean over matched arms, for each seed."""
    arms: int
    """Number of pairs of matched arms."""


def effects(runs: Sequence[Run]) -> Iterator[Effect]:
    """Yield the effects of all factors on all outcomes, in the runs of one subject."""
    found = {(run.arm, run.seed): run.outcomes for run in runs}
    seeds = list(dict.fromkeys(run.seed for run in runs))
    arms = list(dict.fromkeys(run.arm for run in runs))
    whole = {arm for arm in arms if all((arm, seed) in found for seed in seeds)}
    for kind, factor, first, second in EFFECTS:
        changed = {factor: first}
        matched = [
            (arm, replace(arm, **changed))
            for arm in arms
            if getattr(arm, factor) == second and {arm, replace(arm, **changed)} <= whole
        ]
        for outcome in OUTCOMES if matched else ():
            by_seed = [
                mean(
                    [
                        found[arm, seed].get(outcome, math.nan)
                        - found[before, seed].get(outcome, math.nan)
                        for arm, before in matched
                    ]
                )
                for seed in seeds
            ]
            yield Effect(kind, f"{second} - {first}", outcome, tuple(by_seed), len(matched))
