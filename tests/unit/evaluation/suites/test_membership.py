"""Membership statistics as a suite."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Forced, Outcome, Probe, Row
from lit_unlearn.evaluation.suites.membership import Membership
from lit_unlearn.metrics.functional.statistics import bootstrap_auc


def source(folder: Path, name: str, answers: list[str]) -> Source:
    file = folder / f"{name}.jsonl"
    rows = [{"question": f"{name} {i}?", "answer": text} for i, text in enumerate(answers)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Source(str(file), domain="question_answer")


@pytest.fixture
def suite(tmp_path: Path) -> Membership:
    known, unseen = source(tmp_path, "known", ["a a", "b b"]), source(tmp_path, "new", ["c c", "d"])
    return Membership([known], [unseen], k=0.5)


def forced(*log_probs: float) -> Forced:
    """The last one is the end-of-turn token's."""
    size = len(log_probs)
    return Forced(log_probs, (True,) * size, (-2.0,) * size, (0.5,) * size)


def outcomes(probes: list[Probe], texts: list[Forced]) -> dict[str, list[Outcome]]:
    pairs = zip(probes, texts, strict=True)
    return {"": [Outcome(p.probe_id, {"answer": f}) for p, f in pairs]}


TEXTS = [forced(-1, -3, -9), forced(-1, -1, 0), forced(-2, -4, 0), forced(-2, 0)]


def test_scores_of_a_row(suite: Membership) -> None:
    """Log-probs -1, -3 (end-of-turn -9 left out): loss 2; least half 3; standardised (-3+2)/.5."""
    probes = suite.probes(None)
    scores = suite.score(probes, outcomes(probes, TEXTS)).rows[0].scores
    assert scores["loss"] == 2.0
    assert scores["zlib"] == 2.0 / len(zlib.compress(b"a a"))
    assert scores["min_k"] == 3.0
    assert scores["min_k_plus_plus"] == 2.0
    assert math.isnan(scores["reference"])


def test_auc_counts_members_below(suite: Membership) -> None:
    """Losses 2, 1 of members; 3, 2 of others: 2<3, 2=2, 1<3, 1<2 -> 3.5 of 4 pairs."""
    probes = suite.probes(None)
    figures = {f.name: f for f in suite.score(probes, outcomes(probes, TEXTS)).figures}
    assert figures["loss_auc"].value == 3.5 / 4
    assert figures["loss_auc"].count == 4
    ends = bootstrap_auc([2.0, 1.0], [3.0, 2.0])
    assert (figures["loss_auc"].low, figures["loss_auc"].high) == (ends.low, ends.high)
    assert math.isnan(figures["reference_auc"].value)
    assert figures["reference_auc"].note == "needs a reference"


def test_the_reference_is_subtracted(suite: Membership) -> None:
    """A retain model with the same losses leaves nothing: all differences 0, AUC 1/2."""
    probes = suite.probes(None)
    own = suite.score(probes, outcomes(probes, TEXTS)).rows
    groups = {g: [row for row in own if row.group == g] for g in ("member", "nonmember")}
    result = suite.score(probes, outcomes(probes, TEXTS), groups)
    assert [row.scores["reference"] for row in result.rows] == [0.0] * 4
    assert {f.name: f.value for f in result.figures}["reference_auc"] == 0.5


def test_a_reference_of_other_rows(suite: Membership) -> None:
    probes = suite.probes(None)
    with pytest.raises(InputError, match=r"Found no loss for 4 of 4 rows"):
        suite.score(probes, outcomes(probes, TEXTS), {"member": [Row("x", "member", {"loss": 1})]})


def test_raw_passages_are_read_as_plain_text(tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / f"{name}.txt").write_text(f"A passage that is {name}.", encoding="utf-8")
    sources = [Source(str(tmp_path / f"{n}.txt"), domain="passage") for n in ("in", "out")]
    probe = Membership(sources[:1], sources[1:], representation="raw").probes(None)[0]
    assert probe.plain
    assert probe.turns[-1].content == ""
    assert probe.candidates == {"answer": "A passage that is in."}


def test_a_text_on_both_sides(tmp_path: Path) -> None:
    both = source(tmp_path, "known", ["a"])
    with pytest.raises(InputError, match=r"no text in common\. Found 1"):
        Membership([both], [both]).probes(None)


def test_rows_without_answers(tmp_path: Path) -> None:
    rows = source(tmp_path, "known", ["a"])
    rows.columns = {"answer": ""}
    with pytest.raises(InputError, match=r"rows with an answer.*Found none in row 'known/0'"):
        Membership([rows], [rows]).probes(None)


@pytest.mark.parametrize("k", [0.0, 1.5])
def test_bad_share(k: float) -> None:
    with pytest.raises(InputError, match=rf"`k` .* above 0 and at most 1.* Found {k}"):
        Membership([], [], k=k)
