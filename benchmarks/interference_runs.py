"""Results of the jobs of benchmarks/interference_experiment.py: arms, runs, measurements."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from lit_unlearn.evaluation.balancing import balance_figures
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.interference_study.estimates import Estimate
from lit_unlearn.interference_study.interference_page import read_figures
from lit_unlearn.log_names import pairs
from lit_unlearn.metrics.functional import balance
from lit_unlearn.report import read_gradients

PARTS = ("balance", *balance.PARTS)
COSINE, CONFLICT = "mean cosine", "conflict rate"
OUTCOMES = (*PARTS, COSINE, CONFLICT)


@dataclass(frozen=True)
class Arm:
    """One combination of the factors' levels."""

    subject: str
    form: str
    loss: str
    weighting: str

    @property
    def label(self) -> str:
        """The levels without the subject, as text."""
        return f"{self.form}, {self.loss}, {self.weighting}"


@dataclass(frozen=True)
class Measurement:
    """The measurements without training of one subject and form."""

    arm: Arm
    folder: Path

    @cached_property
    def lines(self) -> list[Estimate]:
        """All figures."""
        return read_figures(self.folder)

    def mean(self, figure: str, where: str | None = None) -> float:
        """Return a figure's mean over pairs of objectives, and over places if `where` is None."""
        mine = [x for x in self.lines if x.figure == figure and x.first != x.second]
        return mean([x.value for x in mine if where is None or x.where == where])


@dataclass(frozen=True)
class Run:
    """One arm with one seed."""

    arm: Arm
    seed: int
    folder: Path
    start: Path
    after: str
    """Path of the last evaluation in the run's folder."""

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The diagnosed steps."""
        return read_gradients(self.folder / "gradients.jsonl")

    def cosines(self, step: dict[str, Any]) -> list[float]:
        """Return the cosine of each pair; NaN if one of the two gradients is zero."""
        return [step["cosines"][i][j] for i, j in pairs(step["objectives"])]

    @cached_property
    def outcomes(self) -> dict[str, float]:
        """The balance and its parts, and means of the cosines over pairs and steps."""
        after = read_evaluation(self.folder / self.after)
        figures = balance_figures(read_evaluation(self.start), after)
        found = {figure.name.removeprefix("part/"): figure.value for figure in figures}
        found[COSINE] = mean([c for step in self.records for c in self.cosines(step)])
        rates = [step["conflict_rate"] for step in self.records if known(self.cosines(step))]
        return {**found, CONFLICT: mean(rates)}

    def figures(self) -> dict[str, Any]:
        """Return seed, folder and outcomes as plain values."""
        return {"seed": self.seed, "folder": str(self.folder), **self.outcomes}


@dataclass(frozen=True)
class Findings:
    """Results of all jobs."""

    starts: Mapping[str, Path]
    """Subject -> folder of the start model's evaluation."""
    measurements: Sequence[Measurement]
    folders: Mapping[tuple[Arm, int], Path]
    after: str
    """Path of the last evaluation in a run's folder."""
    failures: Sequence[str] = ()

    @cached_property
    def runs(self) -> list[Run]:
        """All runs; their files are read only when needed."""
        return [
            Run(arm, seed, folder, self.starts[arm.subject], self.after)
            for (arm, seed), folder in self.folders.items()
        ]

    @property
    def subjects(self) -> list[str]:
        """Subjects in the order of the runs."""
        return list(dict.fromkeys(arm.subject for arm, _ in self.folders))

    def by_arm(self, subject: str) -> dict[Arm, list[Run]]:
        """Return the runs of each arm of a subject."""
        found: dict[Arm, list[Run]] = {}
        for run in self.runs:
            if run.arm.subject == subject:
                found.setdefault(run.arm, []).append(run)
        return found


def known(values: Sequence[float]) -> list[float]:
    """Return the finite values."""
    return [value for value in values if math.isfinite(value)]


def mean(values: Sequence[float]) -> float:
    """Return the mean of the finite values; NaN without any."""
    finite = known(values)
    return fmean(finite) if finite else math.nan
