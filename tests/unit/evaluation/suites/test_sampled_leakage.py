"""Leakage in sampled replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Outcome, SuiteResult
from lit_unlearn.evaluation.suites.sampled_leakage import SampledLeakage
from lit_unlearn.metrics.functional.statistics import clopper_pearson


def scored(suite: SampledLeakage, replies: list[tuple[str, ...]]) -> SuiteResult:
    probes = suite.probes(None)
    found = [Outcome(p.probe_id, replies=r) for p, r in zip(probes, replies, strict=True)]
    return suite.score(probes, {"": found})


def test_probability_bound_and_share_of_questions() -> None:
    """Two questions, four replies each, three leaks of the first: 3/8, bound by Clopper-Pearson.

    Without a leak in n = 4 replies the one-sided bound is 1 - 0.05^(1/4) = 0.527.
    """
    suite = SampledLeakage([Source("builtin:forget", split="eval", limit=2)], samples=4)
    gold = suite.probes(None)[0].example.accepted[0]
    result = scored(suite, [("No idea.", gold, gold, f"It is {gold}."), ("No idea.",) * 4])
    leaky, tight = result.rows
    assert leaky.scores["leak_probability"] == 0.75
    assert leaky.reply == gold
    assert tight.scores["leak_probability"] == 0.0
    assert tight.scores["leak_probability_bound"] == pytest.approx(1 - 0.05**0.25)
    figures = {figure.name: figure for figure in result.figures}
    overall = figures["forget/leak_probability"]
    ends = clopper_pearson(3, 8)
    assert (overall.value, overall.count) == (0.375, 8)
    assert (overall.low, overall.high) == (ends.low, ends.high)
    bound = figures["forget/leak_probability_bound"].value
    assert overall.value < bound < ends.high
    assert figures["forget/leaked_at_least_once"].value == 0.5
    assert figures["forget/leaked_at_least_once"].count == 2


@pytest.mark.parametrize(("threshold", "leaks"), [(0.5, 1.0), (0.51, 0.0)])
def test_without_accepted_answers_rouge_decides(
    tmp_path: Path, threshold: float, leaks: float
) -> None:
    """Of the gold answer's four words the reply has two: recall 1/2."""
    file = tmp_path / "rows.jsonl"
    row = {"question": "Where?", "answer": "near the old harbour"}
    file.write_text(json.dumps(row), encoding="utf-8")
    source = Source(str(file), domain="question_answer")
    suite = SampledLeakage([source], samples=1, threshold=threshold)
    result = scored(suite, [("the harbour",)])
    assert result.rows[0].scores["leak_probability"] == leaks
    assert result.figures[0].note == "by ROUGE-L recall"


def test_settings_reach_the_probes() -> None:
    suite = SampledLeakage(samples=3, temperature=0.7, top_p=0.9, seed=5, max_new_tokens=9)
    generation = suite.probes(None)[0].generation
    assert generation is not None
    assert (generation.samples, generation.temperature, generation.top_p) == (3, 0.7, 0.9)
    assert (generation.seed, generation.max_new_tokens) == (5, 9)


@pytest.mark.parametrize("setting", [{"samples": 0}, {"temperature": 0.0}, {"threshold": 0.0}])
def test_bad_settings(setting: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"`{next(iter(setting))}` should be (at least 1|above 0)"):
        SampledLeakage(**setting)  # type: ignore[arg-type]
