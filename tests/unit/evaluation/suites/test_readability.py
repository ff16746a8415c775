"""Readable replies: they end, do not loop, are not empty, and are no noise to the start model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.sources import Source
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Forced, Outcome, Start, Subject, SuiteResult
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.readability import OWN, START, Readability
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.models.tiny import tiny_tokenizer

SUITE = Readability([Source("builtin:forget", split="eval", limit=3)], max_new_tokens=4)


def subject(model: PreTrainedModel, name: str) -> Subject:
    tokenizer = tiny_tokenizer()
    return Subject(name, model.eval(), tokenizer, Encoder(tokenizer), name)


def beside(start: Subject) -> Readability:
    return SUITE.with_start(Start(start.name, lambda: start.fingerprint, lambda: start))


def values(result: SuiteResult) -> dict[str, float]:
    return {f.name.removeprefix("forget/"): f.value for f in result.figures}


def scored(suite: Readability, *outcomes: tuple[str, dict[str, Forced]]) -> SuiteResult:
    probes = suite.probes(None)[: len(outcomes)]
    pairs = zip(probes, outcomes, strict=True)
    return suite.score(probes, {"": [Outcome(p.probe_id, f, (r,)) for p, (r, f) in pairs]})


def tokens(*log_probs: float, ends: bool = True) -> Forced:
    return Forced(log_probs, (*[True] * (len(log_probs) - 1), ends), (-8.0,), ())


def test_the_product_worked_by_hand(tiny_model: PreTrainedModel) -> None:
    """likely: 3 - 4 x 5/8, the end of turn left out; "a b c d a b c d" repeats 1 of 5 4-grams."""
    suite = beside(subject(tiny_model, "start"))
    theirs = tokens(-4.0, -6.0, -99.0)
    fine = ("a b c d a b c d", {OWN: tokens(0.0, 0.0), START: theirs})
    cut = ("a b c d", {OWN: tokens(0.0, 0.0, ends=False), START: theirs})
    noise = ("a b c d", {OWN: tokens(0.0, 0.0), START: tokens(-6.5, -6.5, 0.0)})
    refusal = ("a b c d", {OWN: tokens(0.0, 0.0), START: tokens(-5.0, -3.0, 0.0)})
    rows = scored(suite, fine, cut, noise).rows
    assert [row.scores["readable"] for row in rows] == pytest.approx([0.8 * 0.5, 0.0, 0.0])
    assert [row.scores["likely"] for row in rows] == [0.5, 0.5, 0.0]
    (unusual,) = scored(suite, refusal).rows
    assert (unusual.scores["readable"], unusual.scores["likely"]) == (1.0, 1.0)
    (empty,) = scored(suite, ("", {})).rows
    assert (empty.scores["readable"], empty.scores["empty"]) == (0.0, 1.0)


def test_without_a_start_model_noise_is_not_seen() -> None:
    found = scored(SUITE, ("a b c d", {OWN: tokens(0.0, 0.0)}))
    assert values(found)["readable"] == 1.0
    assert math.isnan(values(found)["likely"])
    assert "--start" in found.figures[0].note


def test_the_model_beside_itself_and_beside_another(
    tiny_model: PreTrainedModel, tmp_path: Path
) -> None:
    """Its replies are likely to itself, less so to another; neither batch nor store counts."""
    model, other = subject(tiny_model, "tiny"), subject(make_tiny_model(7), "other")
    own = run_suite(beside(model), model, Store(tmp_path))
    assert values(own)["likely"] > values(run_suite(beside(other), model))["likely"]
    again = run_suite(beside(model), replace(model, model=torch.nn.Identity()), Store(tmp_path))
    assert again == own
    apart = run_suite(beside(model), model, batch_size=1)
    assert values(apart) == pytest.approx(values(own), abs=1e-5)
