"""``report.html``: a training run on one self-contained page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.report.evaluation_page import sample_replies
from lit_unlearn.report.evaluation_pictures import has_value, suite_picture
from lit_unlearn.report.html import write_page
from lit_unlearn.report.run_pictures import cosine_figure, heatmap_figure, loss_figure, norm_figure
from lit_unlearn.report.run_summary import ARROW, COLUMNS, Change, RunFacts, cell, changes, shown

__all__ = ["SAMPLES", "write_report"]

SAMPLES = 8
"""Largest number of replies shown per objective; the same number with prefills."""


def write_report(
    path: Path | str,
    *,
    facts: RunFacts,
    before: EvaluationRecord,
    after: EvaluationRecord,
    gradients: Sequence[dict[str, Any]] = (),
    gate: Sequence[object] = (),
    config: str = "",
) -> None:
    """Write the page.

    `before` and `after` have the suite `Answers` on the start model and on the trained one.
    `gradients` come from `read_gradients`, `gate` has the rows of the teacher gate; both may be
    empty. `config` is a text in YAML.
    """
    both = changes(before, after)
    minutes, seconds = divmod(round(facts.seconds), 60)
    replies = sample_replies({"before": before, "after": after}, SAMPLES)
    values = {
        "title": "lit-unlearn report",
        "run": f"{facts.model} \u00b7 {facts.steps} steps \u00b7 seed {facts.seed} \u00b7 "
        f"{minutes} min {seconds} s on {facts.device}",
        "arrow": ARROW,
        "cards": [_card(change) for change in both],
        "columns": ("objective", "rows", *(heading for *_, heading in COLUMNS.values())),
        "results": [(c.label, c.rows, *(cell(c, score) for score in COLUMNS)) for c in both],
        "rates": _rates(both),
        "gradients": _gradients(gradients),
        "gate": gate,
        "samples": {Change(group, {}).label: rows for (_, group), rows in replies.items()},
        "files": [*facts.paths.items(), *facts.versions.items()],
        "config": config,
    }
    write_page(Path(path), "run", values)


def _rates(both: Sequence[Change]) -> dict[str, Figure]:
    """Draw correct answers and refusals in a picture each; title -> figure."""
    titles = {"correct": "Correct answers before and after", "refused": "Refusals before and after"}
    found = {}
    for score, title in titles.items():
        lines = [c.lines[score] for c in both if any(map(has_value, c.lines[score].cells))]
        if lines:
            found[title] = suite_picture(["before", "after"], lines)
    return found


def _card(change: Change) -> dict[str, str]:
    """Return the objective's first measured figure and its refusals, as texts."""
    score = "correct" if change.lines["correct"].figure.count else "rouge_l_recall"
    before, after = (shown(figure) for figure in change.lines[score].cells)
    texts = {"title": change.label, "figure": COLUMNS[score][-1], "before": before, "after": after}
    return texts | {"refusals": cell(change, "refused")}


def _gradients(records: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Draw losses and norms, and the cosines of two or more objectives; title -> figure."""
    if not records:
        return {}
    figures: dict[str, Figure] = {}
    if len(records[0]["objectives"]) > 1:
        figures = {
            "Cosine of each pair of objectives' gradients over the steps": cosine_figure(records),
            "Cosine of gradients per layer group and pair": heatmap_figure(records),
        }
    return figures | {
        "Loss of each objective over the steps": loss_figure(records),
        "Gradient norm of each objective over the steps": norm_figure(records),
    }
