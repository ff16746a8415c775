"""benchmarks/request_sequence.py: which runs, who is kept, figures by hand, the page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.rewriting.source_texts import QA
from tests.benchmark_scripts import benchmark

script, report, rows_of = map(
    benchmark, ("request_sequence", "request_sequence_report", "request_sequence_rows")
)
pictures = benchmark("request_sequence_pictures")
GROUPS = [*(f"request {n}" for n in range(1, 6)), report.KEPT, report.FACTS, report.GENERAL]


def row(group: str, number: int, recall: float, probability: float) -> Row:
    scores = {"rouge_l_recall": recall, "answer_nll": -math.log(probability), "correct": recall}
    scores |= {"extraction_strength": recall / 2, "refused": 1 - recall, "repetition": 0}
    return Row(f"{group}/{number}", group, scores)


def measured(
    name: str, new: Sequence[int], recall: dict[str, float], run: Path | None = None
) -> Any:
    """A model; the probability is half of the recall, both the same for two rows of a group."""
    rows = [row(g, n, recall.get(g, 0.8), recall.get(g, 0.8) / 2) for g in GROUPS for n in (0, 1)]
    suite = SuiteRecord("answers", {}, 0.0, 0.0, rows, [])
    return report.Measured(
        name, new, (), EvaluationRecord(name, "", {"answers": suite}, {}, {}), run
    )


def test_every_run_starts_from_an_earlier_one_and_equal_runs_are_made_once() -> None:
    runs = script.all_runs()
    names = [run.name for run in runs]
    assert len(names) == len(set(names)) == 33
    for place, run in enumerate(runs):
        assert run.start is None or run.start in names[:place]
        assert run.before == (tuple(range(1, run.new[0])) if run.start else ())
    assert not set(report.MADE_ANYWAY) & set(names)
    assert set(report.MADE_ANYWAY.values()) <= set(names)
    steps = {run.name: run.steps({"default": 26})["default"] for run in runs}
    assert (steps["npo_at_once"], steps["npo_5"]) == (130, 26)


def test_recipes_differ_in_what_their_arms_are_named_after() -> None:
    """A share of the update, and the model that teaches."""
    steps, rates = {"default": 26, "npo": 30}, {"default": 5e-4, "npo": 1e-3}
    plain, part, first, npo = (
        rows_of.recipe(name, steps, rates, [], "target")
        for name in ("default", "interpolated", "first_teacher", "npo")
    )
    for recipe in (part, first):
        share = recipe["trainer"]["callbacks"].pop(1)
        assert share["class_path"] == "WeightInterpolation"
    assert part == plain
    assert first["model"]["teacher"]["init_args"].pop("path") == "target"
    assert first == plain
    assert (plain["trainer"]["max_steps"], npo["trainer"]["max_steps"]) == (26, 30)
    assert npo["model"]["optimizer"]["init_args"]["lr"] == 1e-3
    assert plain["model"]["optimizer"]["init_args"]["lr"] == 5e-4


def test_neighbours_are_the_authors_that_nobody_asked_to_forget_yet() -> None:
    """Three rows of each of four authors of a request, and the rows that are always kept."""
    trained = [[QA(f"{r} {a} {n}", "x") for a in range(4) for n in range(9)] for r in range(1, 6)]
    rows = rows_of.Rows(trained, {}, [QA("kept", "x")], [])
    found = [qa.question for qa in rows_of.neighbours(rows, (1, 2))]
    assert found[0] == "kept"
    assert len(found) == 1 + 3 * 4 * 3
    assert {text.split()[0] for text in found[1:]} == {"3", "4", "5"}
    assert "3 0 2" in found
    assert "3 0 3" not in found
    assert [qa.question for qa in rows_of.neighbours(rows, range(1, 6))] == ["kept"]


def test_figures() -> None:
    """Recall .8 -> .2 leaves a quarter of each ratio; the smallest ratio of what stays is .6/.8."""
    target = measured("target", (), {})
    model = measured("plain_1", (1,), {"request 1": 0.2, report.FACTS: 0.6, report.KEPT: 1.0})
    assert report.forgotten(model, target, 1) == pytest.approx((0.75, 0.75, 0.75))
    assert report.forgotten(model, target, 2) == (0, 0, 0)
    assert report.kept(model, target) == pytest.approx((0.75, 0.75, 0.75))


def test_what_is_still_likely_is_not_forgotten() -> None:
    target = measured("target", (), {})
    model = measured("plain_1", (1,), {"request 1": 0.2})
    for each in model.groups["request 1"]:
        each.scores["answer_nll"] = -math.log(0.36)  # of .4
    assert report.forgotten(model, target, 1)[0] == pytest.approx(0.1)


def test_tables_pictures_and_page(tmp_path: Path) -> None:
    cosines = [[1, 0.5, 0.2], [0.5, 1, None], [0.2, None, 1]]
    lines = [{"step": s, "objectives": ["forget", "retain", "earlier"]} for s in (0, 4)]
    lines[0]["cosines"], lines[1]["cosines"] = cosines, [[1, 0, 0.6], [0, 1, 0], [0.6, 0, 1]]
    (tmp_path / "gradients.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    models = [measured("target", (), {}), measured("plain_1", (1,), {"request 1": 0.2})]
    models.append(measured("joined_2", (2,), {"request 1": 0.4}, tmp_path))
    models.append(measured("interpolated_1", (1,), {"request 1": 0.2}))
    found = report.Results(models)
    assert [model.name for model in found.sequence("joined")] == ["plain_1", "joined_2"]
    text = report.markdown(found)
    assert "| joined | 2 | 0.50 [0.50, 0.50] | 0.00 [0.00, 0.00] | (0.00) |" in text
    assert "| joined | 2 | 0.75 | 0.75 | 0.75 | 0.40 | 0.00 |" in text
    assert "| interpolated, alone (1 of 5) | 0.75 | 0.75 | 1.00 | 0.20 |" in text
    assert "| joined | 2 | forget | +0.40 | +0.20 |" in text
    assert "| joined | 2 | retain | +0.00 | +0.00 |" in text  # the undefined one does not count
    report.write_json(found, tmp_path / "sequence.json")
    assert json.loads((tmp_path / "sequence.json").read_text("utf-8"))["joined_2"]["new"] == [2]
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{report.BEGIN}\nold\n{report.END}\nAfter.", "utf-8")
    (tmp_path / "images").mkdir()
    report.write_docs(page, text, pictures.save_pictures(found, tmp_path))
    content = page.read_text("utf-8")
    assert content.startswith("Before.")
    assert "old" not in content
    assert (
        len(list((tmp_path / "images").glob("requests_*.png"))) == content.count("](images/") == 3
    )
