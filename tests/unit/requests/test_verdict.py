"""Verdict: default thresholds, thresholds of figures that nobody measures, reasons in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.evaluation.suites.input_attacks import Prefill
from lit_unlearn.requests.thresholds import Threshold, checks
from lit_unlearn.requests.verdict import (
    Judged,
    check_figures,
    default_thresholds,
    teacher_notes,
    write_verdict,
)
from lit_unlearn.training.setup.settled import Settled, read_gate, write_settled
from lit_unlearn.training.setup.teacher_gate import GateRow

KNOWN = Figure("known", 0.8, "", 10, 0.5, 0.9)
RECALL = "prefill/unattacked/recall"


def record(**figures: float) -> EvaluationRecord:
    own = [
        Figure(name.replace("_", "/"), value, "", 10, 0.0, 0.3) for name, value in figures.items()
    ]
    suites = {name: SuiteRecord(name, {}, 0, 0, [], own) for name in ("prefill", "boundary")}
    return EvaluationRecord("m", "f", suites)


def test_defaults_ask_what_the_start_model_has() -> None:
    start = record(unattacked_recall=0.0, neighbor_refused=0.0, neighbor_correct=0.0)
    assert [t.figure for t in default_thresholds(start)] == [RECALL, "boundary/neighbor/refused"]
    start = record(neighbor_correct=0.5)
    assert [t.figure for t in default_thresholds(start)] == ["boundary/neighbor/correct"]


def test_a_threshold_of_an_unknown_figure_is_refused() -> None:
    rows = [Source("builtin:forget", limit=3)]
    kept = [Source("builtin:neighbor", limit=2)]
    suites = {"prefill": Prefill(rows), "boundary": Boundary(kept, []), "depth": Depth(rows)}
    known = (RECALL, "balance/part/utility", "depth/forget/lens", "boundary/neighbor/correct")
    check_figures([Threshold(name, at_most=1) for name in known], suites)
    for name, hint in [
        ("prefill/unattacked/recal", f"did you mean {RECALL}"),
        ("boundary/general/correct", "boundary/neighbor/correct"),
        ("relearn/x", "suites: prefill, boundary, depth"),
        ("balance/part/humour", "should name figures"),
    ]:
        with pytest.raises(InputError, match=hint):
            check_figures([Threshold(name, at_most=1)], suites)


def test_the_reasons_name_what_failed_and_what_is_uncertain(tmp_path: Path) -> None:
    bounds = [
        Threshold(RECALL, at_most=0.2),
        Threshold("prefill/opener/recall", at_most=0.1),
        Threshold("prefill/lost", at_most=0.1),
    ]
    found = checks(bounds, record(unattacked_recall=0.1, opener_recall=0.2), None)
    judged = Judged("not met", KNOWN, found, ["few rows"])
    first, *reasons = judged.reasons()
    assert first == "Before, the model knew 8 of 10 questions."
    assert reasons[0] == "prefill/opener/recall is 0.2; it should be at most 0.1."
    assert reasons[1].startswith(
        "prefill/lost was not measured (the evaluation has no such figure)"
    )
    share = Threshold(RECALL, at_most=0.2, of_start=True)
    again = Judged(
        "not met",
        KNOWN,
        checks([share], record(unattacked_recall=0.1), record(unattacked_recall=0.3)),
    )
    assert again.reasons()[1] == (
        f"{RECALL} is 0.1 (0.3 at the start); it should be at most 0.2 of the start."
    )
    assert RECALL in reasons[2]  # its interval, 0 to .3, reaches beyond .2
    write_verdict(tmp_path / "verdict.json", "a", "m", judged)
    content = json.loads((tmp_path / "verdict.json").read_text("utf-8"))
    assert (content["verdict"], content["exit_status"], judged.status) == ("not met", 3, 3)
    assert [each["outcome"] for each in content["checks"]] == ["met", "not met", "not measured"]
    assert content["checks"][2]["value"] is None
    assert content["notes"] == ["few rows"]


def test_nothing_to_forget_is_said_with_its_limits() -> None:
    none = Judged("nothing to forget", Figure("known", 0.0, "", 5, 0.0, 0.52))
    assert none.status == 0
    assert none.reasons()[0] == (
        "The model knows 0 of 5 questions. Up to 5% counts as nothing to forget."
    )
    assert "may be as high as 0.52" in none.reasons()[1]
    sure = Judged("nothing to forget", Figure("known", 0.0, "", 100, 0.0, 0.04))
    assert len(sure.reasons()) == 1


def test_a_weak_teacher_is_named(tmp_path: Path) -> None:
    weak = GateRow("forget", "8 declined", "declines", 8, 0.25, 0.9, 0.99, 0.9)
    sound = GateRow("retain", "none", "answers", 8, 1.0, 0.9, None, None)
    settled = Settled(settled=[weak, sound])
    write_settled(tmp_path / "preparation.json", "key", settled)
    gate = read_gate(tmp_path / "preparation.json")
    assert gate == settled.settled
    (note,) = teacher_notes(gate)
    assert "(forget: declines 2 of 8 tried rows)" in note
    assert not list(teacher_notes([sound]))
    assert read_gate(tmp_path / "missing.json") == []
