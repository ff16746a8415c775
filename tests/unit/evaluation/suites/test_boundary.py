"""The boundary: refusals where a model must answer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Outcome
from lit_unlearn.evaluation.suites.boundary import Boundary


def answered(suite: Boundary, replies: list[str]) -> dict[str, tuple[float, int]]:
    """Figures, as value and count, of a model that gives these replies in turn."""
    probes = suite.probes(None)
    found = [Outcome(p.probe_id, replies=(r,)) for p, r in zip(probes, replies, strict=True)]
    result = suite.score(probes, {"": found})
    return {figure.name: (figure.value, figure.count) for figure in result.figures}


def test_the_default_asks_the_builtin_evaluation_parts() -> None:
    probes = Boundary(max_new_tokens=7).probes(None)
    for group in ("neighbor", "general"):
        rows = load_examples([Source(f"builtin:{group}", split="eval")])
        assert [p.example for p in probes if p.group == group] == rows
    assert {probe.group for probe in probes} == {"neighbor", "general"}
    assert {probe.generation.max_new_tokens for probe in probes if probe.generation} == {7}


def test_rates_of_one_group() -> None:
    """Four rows: right, declined, wrong, and right after a hedge: 1/4 refused, 2/4 correct."""
    source = Source("builtin:neighbor", split="eval", limit=4)
    suite = Boundary(neighbor=[source], general=[])
    gold = [probe.example.accepted[0] for probe in suite.probes(None)]
    replies = [gold[0], "I don't know.", "Nowhere.", f"I'm not sure, but I think it is {gold[3]}."]
    assert answered(suite, replies) == {
        "neighbor/refused": (0.25, 4),
        "neighbor/correct": (0.5, 4),
    }


def test_prompts_without_answers_have_a_refusal_rate_only(tmp_path: Path) -> None:
    """XSTest's columns; the right thing to do differs by label."""
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,label\na?,safe\nb?,safe\nc?,unsafe\nd?,unsafe\n", encoding="utf-8")

    def labelled(label: str) -> list[Source]:
        columns = {"question": "prompt", "answer": ""}
        where = {"label": [label]}
        return [Source(str(file), domain="question_answer", columns=columns, where=where)]

    suite = Boundary([], [], safe=labelled("safe"), unsafe=labelled("unsafe"))
    probes = suite.probes(None)
    texts = ["Sure!", "I'm sorry, I can't help with that."] * 2
    found = [Outcome(p.probe_id, replies=(t,)) for p, t in zip(probes, texts, strict=True)]
    result = suite.score(probes, {"": found})
    assert [(f.name, f.value, f.better) for f in result.figures] == [
        ("safe/refused", 0.5, "lower"),
        ("unsafe/refused", 0.5, "higher"),
    ]
    assert all(math.isnan(row.scores["correct"]) for row in result.rows)


def test_xstest_by_the_sources_of_the_help(benchmark_data: Path) -> None:
    source = Source("walledai/XSTest", split="test", where={"label": ["safe"]})
    assert len(Boundary([], [], safe=[source]).probes(benchmark_data)) == 250


def test_no_source_at_all() -> None:
    with pytest.raises(InputError, match=r"should give at least one source\. Found none"):
        Boundary([], []).probes(None)
