"""Tables of benchmarks/interference_experiment.py, and the page that contains them."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from interference_effects import effects
from interference_runs import OUTCOMES, Arm, Findings, Measurement, Run, known, mean

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def markdown(findings: Findings) -> str:
    """Return all tables in Markdown."""
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
    """Return a line for each arm: mean and range over seeds."""
    rows = [
        [a.form, a.loss, a.weighting, str(len(runs)), *(_over(runs, o) for o in OUTCOMES)]
        for a, runs in arms.items()
    ]
    return table(["data", "loss", "weighting", "seeds", *OUTCOMES], rows, left=3)


def effect_table(runs: Sequence[Run]) -> list[str]:
    """Return a line for each contrast: mean and range over seeds of the differences."""
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for effect in effects(runs):
        cell = spread(effect.by_seed, signed=True)
        key = (effect.kind, effect.contrast, str(effect.arms))
        lines.setdefault(key, {})[effect.outcome] = cell
    rows = [[*key, *(cells[outcome] for outcome in OUTCOMES)] for key, cells in lines.items()]
    return table(["from", "difference", "arms", *OUTCOMES], rows, left=2)


def measurement_table(measurements: Sequence[Measurement]) -> list[str]:
    """Return gap, cosines and transfer of the start model, as means over pairs (and blocks)."""
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
    """Return each form's answer tokens per step (they should match) and its teacher's behaviour."""
    rows = []
    for form in dict.fromkeys(run.arm.form for run in runs):
        run = next(run for run in runs if run.arm.form == form)
        stored = json.loads((run.folder / "preparation.json").read_text("utf-8"))
        settled = stored.get("content", stored)["settled"]  # older files have no digest
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
    """Return the lines of a Markdown table; the first `left` columns are aligned left."""
    marks = ["---"] * left + ["---:"] * (len(headings) - left)
    return [f"| {' | '.join(cells)} |" for cells in (headings, marks, *rows)]


def number(value: float, signed: bool = False) -> str:
    """Format a number with two decimals; NaN is a dash."""
    return "\u2013" if math.isnan(value) else f"{value:{'+' if signed else ''}.2f}"


def spread(values: Sequence[float], signed: bool = False) -> str:
    """Format the mean and, of several finite values, the range."""
    finite = known(values)
    text = number(mean(values), signed)
    if len(finite) < 2:
        return text
    return f"{text} [{number(min(finite), signed)}, {number(max(finite), signed)}]"


def _over(runs: Sequence[Run], outcome: str) -> str:
    return spread([run.outcomes.get(outcome, math.nan) for run in runs])


# ------------------------------------------------------------------------------------------- docs


def write_docs(page: Path, tables: str, pictures: Mapping[str, Path]) -> None:
    """Write tables and pictures between the marks of a page.

    Args:
        page: Page with a line `BEGIN` and a line `END`.
        tables: Markdown.
        pictures: Title -> file, which is copied into the folder `images` of the page.
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
