"""Pictures of benchmarks/interference_experiment.py."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
from interference_effects import effects
from interference_runs import (
    CONFLICT,
    COSINE,
    PARTS,
    Arm,
    Findings,
    Measurement,
    Run,
    known,
    mean,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lit_unlearn.interference_study.interference_pictures import matrix_figure
from lit_unlearn.log_names import pairs
from lit_unlearn.report.style import COLOURS, INK, STYLE, bare, lay_out

FORMS = {"raw": COLOURS[1], "unified": COLOURS[0]}
Curve = Mapping[int, Sequence[float]]
"""Step -> a value for each seed."""


def save_pictures(findings: Findings, folder: Path) -> dict[str, Path]:
    """Draw all pictures.

    Returns:
        Title -> file.
    """
    saved = {}
    with matplotlib.rc_context(STYLE):
        for subject in findings.subjects:
            for name, (title, figure) in _drawn(findings, subject):
                file = folder / f"{subject}_{name}.png"
                lay_out(figure)
                figure.savefig(file, dpi=110, facecolor="white")
                saved[f"{subject}: {title}"] = file
    return saved


def _drawn(findings: Findings, subject: str) -> Iterator[tuple[str, tuple[str, Figure]]]:
    arms = findings.by_arm(subject)
    runs = [run for own in arms.values() for run in own]
    measured = {m.arm.form: m for m in findings.measurements if m.arm.subject == subject}
    yield "cosines", ("cosines over training, mean over pairs; range over seeds", arm_grid(arms))
    yield "pairs", ("cosine of each pair, first arm of each form", pair_panels(arms))
    yield "parts", ("final evaluation; dots are seeds", part_bars(arms))
    if any(effects(runs)):
        yield "effects", ("what each factor changes; dots are seeds", effect_dots(runs))
    if measured:
        yield "gap", ("domain gap, mean over pairs", gap_panels(measured))
        lines = [line for m in measured.values() for line in m.lines]
        if any(line.figure == "shared gain" for line in lines):
            names = list(dict.fromkeys(x.first for x in lines if x.figure == "shared gain"))
            figure = matrix_figure(lines, "shared gain", names, "transfer")
            yield "transfer", ("what a step for one objective (row) does to another", figure)


def arm_grid(arms: Mapping[Arm, Sequence[Run]]) -> Figure:
    """Draw the mean cosine over the steps: rows are losses, columns weightings, colours forms."""
    losses = list(dict.fromkeys(arm.loss for arm in arms))
    weightings = list(dict.fromkeys(arm.weighting for arm in arms))
    figure = Figure(figsize=(1.5 + 2.9 * len(weightings), 0.8 + 2.0 * len(losses)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(losses), len(weightings), squeeze=False, sharex=True, sharey=True)
    for row, loss in zip(panels, losses, strict=True):
        for axes, weighting in zip(row, weightings, strict=True):
            _frame(axes, f"{loss}, {weighting}")
            for arm, runs in arms.items():
                if (arm.loss, arm.weighting) == (loss, weighting):
                    _band(axes, _curve(runs, None), arm.form)
    _legend(figure, panels[0][0], "mean cosine of the pairs, over the steps")
    return figure


def pair_panels(arms: Mapping[Arm, Sequence[Run]]) -> Figure:
    """Draw the cosine of each pair over the steps, for the first arm (with both losses if any)."""
    shown: dict[str, Sequence[Run]] = {}
    for arm, runs in sorted(arms.items(), key=lambda item: item[0].loss != "both"):
        shown.setdefault(arm.form, runs)
    names = next(iter(shown.values()))[0].records[0]["objectives"]
    couples = list(pairs(names))
    columns = min(3, len(couples))
    rows = math.ceil(len(couples) / columns)
    figure = Figure(figsize=(1.5 + 2.9 * columns, 0.8 + 2.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for index, (axes, (i, j)) in enumerate(zip(panels.flatten(), couples, strict=False)):
        _frame(axes, f"{names[i]} ~ {names[j]}")
        for form, runs in shown.items():
            _band(axes, _curve(runs, index), form)
    _legend(figure, panels[0][0], "cosine over the steps")
    return figure


def part_bars(arms: Mapping[Arm, Sequence[Run]]) -> Figure:
    """Draw the balance and its parts, with a bar for each arm."""
    figure = Figure(figsize=(12.0, 1.0 + 0.24 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(PARTS), sharey=True)
    for panel, part in zip(panels, PARTS, strict=True):
        bare(panel)
        for place, (arm, runs) in enumerate(arms.items()):
            values = known([run.outcomes.get(part, math.nan) for run in runs])
            height = mean(values) if values else 0.0
            panel.barh(place, height, 0.7, color=FORMS[arm.form], alpha=0.7)
            panel.plot(values, [place] * len(values), ".", color=INK, markersize=4)
        panel.set_title(part)
        panel.set_xlim(0, 1.02)
    panels[0].set_yticks(range(len(arms)), [arm.label for arm in arms])
    panels[0].invert_yaxis()
    return figure


def effect_dots(runs: Sequence[Run]) -> Figure:
    """Draw each factor's effect on balance, cosines and conflicts; above 0 favours level two."""
    outcomes = ("balance", COSINE, CONFLICT)
    found = [effect for effect in effects(runs) if effect.outcome in outcomes]
    contrasts = list(dict.fromkeys((e.kind, e.contrast) for e in found))
    figure = Figure(figsize=(10.0, 1.2 + 0.4 * len(contrasts)), layout="constrained")
    panels = figure.subplots(1, len(outcomes), sharey=True)
    for panel, outcome in zip(panels, outcomes, strict=True):
        bare(panel)
        panel.axvline(0.0, color=INK, linewidth=1.0)
        panel.set_title(outcome)
        panel.locator_params(axis="x", nbins=4)
        for effect in found:
            if effect.outcome == outcome:
                place = contrasts.index((effect.kind, effect.contrast))
                values = known(effect.by_seed)
                panel.plot(values, [place] * len(values), ".", color=COLOURS[0], alpha=0.6)
                panel.plot(mean(values), place, "D", color=COLOURS[1], markersize=5)
    labels = [f"{kind}: {contrast}" for kind, contrast in contrasts]
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    return figure


def gap_panels(measured: Mapping[str, Measurement]) -> Figure:
    """Draw the domain gap of the objectives' data over the decoder blocks, by form."""
    figures = ("MMD^2", "proxy A-distance", "covariance CKA")
    figure = Figure(figsize=(11.0, 2.8), layout="constrained")
    panels = figure.subplots(1, len(figures), squeeze=False)
    for axes, name in zip(panels[0], figures, strict=True):
        bare(axes)
        axes.set_title(name)
        axes.set_xlabel("decoder block")
        for form, measurement in measured.items():
            places = dict.fromkeys(x.where for x in measurement.lines if x.figure == name)
            values = [measurement.mean(name, place) for place in places]
            axes.plot(range(len(values)), values, color=FORMS[form], label=form)
    _legend(figure, panels[0][0], "")
    return figure


# ------------------------------------------------------------------------------------------ parts


def _curve(runs: Sequence[Run], pair: int | None) -> dict[int, list[float]]:
    """Return the cosines of one pair, or means over pairs, of each step with a finite value."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for step in run.records:
            cosines = run.cosines(step)
            value = mean(cosines) if pair is None else cosines[pair]
            found.setdefault(step["step"], []).extend(known([value]))
    return {step: values for step, values in found.items() if values}


def _band(axes: Axes, curve: Curve, form: str) -> None:
    steps, values = list(curve), list(curve.values())
    colour = FORMS[form]
    axes.plot(steps, [mean(v) for v in values], color=colour, marker="o", markersize=3, label=form)
    axes.fill_between(
        steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15
    )


def _frame(axes: Axes, title: str) -> None:
    bare(axes)
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.set_title(title)


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    figure.supylabel(title)
