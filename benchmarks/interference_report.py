"""The tables of benchmarks/interference_experiment.py; the pictures are in interference_pictures.

A run is one arm with one seed. An effect is the difference that one factor makes with all others
held: for each seed the mean over the arms that differ in nothing else, then mean and range over
seeds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from lit_unlearn.evaluation.balancing import balance_figures
from lit_unlearn.interference.figures import Line
from lit_unlearn.interference.page import read_figures
from lit_unlearn.report import read_gradients
from lit_unlearn.report.evaluation_files import read_evaluation
from lit_unlearn.schema import pairs

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
PARTS = ("balance", "forgetting", "utility", "boundary", "robustness")
COSINE, CONFLICT = "mean cosine", "conflict rate"
OUTCOMES = (*PARTS, COSINE, CONFLICT)
EFFECTS = (
    ("data", "form", "raw", "unified"),
    ("loss", "loss", "pull", "both"),
    ("loss", "loss", "push", "both"),
    ("weighting", "weighting", "sum", "pcgrad"),
    ("weighting", "weighting", "sum", "mgda"),
)
"""Kind of gain, the factor, and the levels that are compared: the second minus the first."""


@dataclass(frozen=True)
class Arm:
    """One combination of the factors' levels."""

    subject: str
    form: str
    loss: str
    weighting: str

    @property
    def label(self) -> str:
        """Without the subject."""
        return f"{self.form}, {self.loss}, {self.weighting}"


@dataclass(frozen=True)
class Measurement:
    """What was measured without training, of one subject and form."""

    arm: Arm
    folder: Path

    @cached_property
    def lines(self) -> list[Line]:
        """All figures."""
        return read_figures(self.folder)

    def mean(self, figure: str, where: str | None = None) -> float:
        """Over the pairs of objectives and, where nothing is said, over the places."""
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
    """Where in its folder the last evaluation is."""

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The diagnosed steps."""
        return read_gradients(self.folder / "gradients.jsonl")

    def cosines(self, step: dict[str, Any]) -> list[float]:
        """Of each pair; NaN where one of the two is at rest."""
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
        """All of it as plain values."""
        return {"seed": self.seed, "folder": str(self.folder), **self.outcomes}


@dataclass(frozen=True)
class Findings:
    """What all jobs have left."""

    starts: Mapping[str, Path]
    """Subject -> folder of the start model's evaluation."""
    measurements: Sequence[Measurement]
    folders: Mapping[tuple[Arm, int], Path]
    after: str
    """Where in a run's folder the last evaluation is."""
    failures: Sequence[str] = ()

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, of which nothing is read before it is asked for."""
        return [
            Run(arm, seed, folder, self.starts[arm.subject], self.after)
            for (arm, seed), folder in self.folders.items()
        ]

    @property
    def subjects(self) -> list[str]:
        """In the order of the runs."""
        return list(dict.fromkeys(arm.subject for arm, _ in self.folders))

    def by_arm(self, subject: str) -> dict[Arm, list[Run]]:
        """The runs of each arm of a subject."""
        found: dict[Arm, list[Run]] = {}
        for run in self.runs:
            if run.arm.subject == subject:
                found.setdefault(run.arm, []).append(run)
        return found


def known(values: Sequence[float]) -> list[float]:
    """Those that are finite."""
    return [value for value in values if math.isfinite(value)]


def mean(values: Sequence[float]) -> float:
    """Of the finite ones; NaN without any."""
    finite = known(values)
    return fmean(finite) if finite else math.nan


# ---------------------------------------------------------------------------------------- effects


class Effect(NamedTuple):
    """What one factor changes in one outcome."""

    kind: str
    contrast: str
    outcome: str
    by_seed: tuple[float, ...]
    """The mean over matched arms, of each seed."""


def effects(runs: Sequence[Run]) -> Iterator[Effect]:
    """The effects of all factors on all outcomes, of one subject's runs."""
    found = {(run.arm, run.seed): run.outcomes for run in runs}
    seeds = list(dict.fromkeys(run.seed for run in runs))
    for kind, factor, first, second in EFFECTS:
        changed = {factor: first}
        matched = [
            (arm, seed, replace(arm, **changed))
            for arm, seed in found
            if getattr(arm, factor) == second and (replace(arm, **changed), seed) in found
        ]
        for outcome in OUTCOMES if matched else ():
            gains: dict[int, list[float]] = {seed: [] for seed in seeds}
            for arm, seed, before in matched:
                after, earlier = found[arm, seed], found[before, seed]
                gains[seed].append(after.get(outcome, math.nan) - earlier.get(outcome, math.nan))
            by_seed = tuple(map(mean, gains.values()))
            yield Effect(kind, f"{second} - {first}", outcome, by_seed)


# ----------------------------------------------------------------------------------------- tables


def markdown(findings: Findings) -> str:
    """All tables."""
    parts = []
    for subject in findings.subjects:
        runs = [run for run in findings.runs if run.arm.subject == subject]
        own = [m for m in findings.measurements if m.arm.subject == subject]
        parts += [f"### {subject}: arms", "", *arm_table(findings.by_arm(subject)), ""]
        parts += [f"### {subject}: what each factor changes", "", *effect_table(runs), ""]
        parts += [f"### {subject}: before training", "", *measurement_table(own), ""]
        parts += [f"### {subject}: data and teacher", "", *data_table(runs), ""]
    if findings.failures:
        parts += ["Failed:", "", *(f"- {text}" for text in findings.failures), ""]
    return "\n".join(parts)


def arm_table(arms: Mapping[Arm, Sequence[Run]]) -> list[str]:
    """A line for each arm: mean over seeds, and the range."""
    rows = [
        [a.form, a.loss, a.weighting, str(len(runs)), *(_over(runs, o) for o in OUTCOMES)]
        for a, runs in arms.items()
    ]
    return table(["data", "loss", "weighting", "seeds", *OUTCOMES], rows, left=3)


def effect_table(runs: Sequence[Run]) -> list[str]:
    """A line for each contrast: mean over seeds of the differences, and the range."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for effect in effects(runs):
        cell = spread(effect.by_seed, signed=True)
        lines.setdefault((effect.kind, effect.contrast), {})[effect.outcome] = cell
    rows = [[*key, *(cells[outcome] for outcome in OUTCOMES)] for key, cells in lines.items()]
    return table(["from", "difference", *OUTCOMES], rows, left=2)


def measurement_table(measurements: Sequence[Measurement]) -> list[str]:
    """Gap, cosines and transfer of the start model, means over pairs (and blocks)."""
    figures = {
        "cosine": ("cosine", "whole"),
        "shared gain": ("shared gain", None),
        "MMD^2": ("MMD^2", None),
        "proxy A-distance": ("proxy A-distance", None),
        "covariance CKA": ("covariance CKA", None),
        "token divergence": ("token divergence", None),
    }
    rows = [
        [m.arm.form, *(number(m.mean(*figure)) for figure in figures.values())]
        for m in measurements
    ]
    return table(["data", *figures], rows)


def data_table(runs: Sequence[Run]) -> list[str]:
    """Answer tokens in a step (they should match), and what the teacher does, of each form."""
    rows = []
    for form in dict.fromkeys(run.arm.form for run in runs):
        run = next(run for run in runs if run.arm.form == form)
        settled = json.loads((run.folder / "preparation.json").read_text("utf-8"))["settled"]
        gate = {row["objective"]: row for row in settled}
        for index, name in enumerate(run.records[0]["objectives"]):
            tokens = mean([step["answer_tokens"][index] for step in run.records])
            row = gate.get(name)
            duty = f"{row['duty']} {row['share']:.0%}" if row else "-"
            first = row and row["first_token_mean"]
            shown = "-" if first is None else f"{first:.2f}"
            rows.append([form, name, f"{tokens:.0f}", duty, shown])
    return table(["data", "objective", "answer tokens a step", "teacher", "first token"], rows, 2)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a Markdown table; the first columns to the left, the others to the right."""
    marks = ["---"] * left + ["---:"] * (len(headings) - left)
    return [f"| {' | '.join(cells)} |" for cells in (headings, marks, *rows)]


def number(value: float, signed: bool = False) -> str:
    """Two decimals."""
    return "\u2013" if math.isnan(value) else f"{value:{'+' if signed else ''}.2f}"


def spread(values: Sequence[float], signed: bool = False) -> str:
    """The mean, and the range of several values."""
    finite = known(values)
    text = number(mean(values), signed)
    if len(finite) < 2:
        return text
    return f"{text} [{number(min(finite), signed)}, {number(max(finite), signed)}]"


def _over(runs: Sequence[Run], outcome: str) -> str:
    return spread([run.outcomes.get(outcome, math.nan) for run in runs])


# ------------------------------------------------------------------------------------------- docs


def write_docs(page: Path, tables: str, pictures: Mapping[str, Path]) -> None:
    """Put tables and pictures between the marks of a page.

    Args:
        page: Has a line `BEGIN` and a line `END`.
        tables: Markdown.
        pictures: Title -> file, which is copied beside the page into `images`.
    """
    links = []
    for title, file in pictures.items():
        target = page.parent / "images" / f"interference_{file.name}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
        links += [f"![{title}](images/{target.name})", "", f"*{title}*", ""]
    made = "\n".join([BEGIN, "", tables.rstrip(), "", *links, END])
    text = page.read_text("utf-8")
    found = re.fullmatch(f"(.*){BEGIN}.*{END}(.*)", text, flags=re.DOTALL)
    if found is None:
        raise SystemExit(f"{page}: expected a part from {BEGIN} to {END}, found none")
    page.write_text(found[1] + made + found[2], "utf-8")
