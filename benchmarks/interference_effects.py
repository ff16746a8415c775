"""What each factor of the interference experiment changes.

An effect is the difference that one factor makes with all others held: for each seed the mean over
the arms that differ in nothing else, then mean and range over seeds. Only arms that have all seeds
take part, so that no seed's mean is that of other arms.
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
"""Kind of gain, the factor, and the levels that are compared: the second minus the first."""


class Effect(NamedTuple):
    """What one factor changes in one outcome."""

    kind: str
    contrast: str
    outcome: str
    by_seed: tuple[float, ...]
    """The mean over matched arms, of each seed."""
    arms: int
    """How many arms with the second level, and their like with the first."""


def effects(runs: Sequence[Run]) -> Iterator[Effect]:
    """The effects of all factors on all outcomes, of one subject's runs."""
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
