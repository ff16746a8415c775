"""The adapter to the lm-evaluation-harness: a missing package, and results as figures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Subject
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites import lm_harness
from lit_unlearn.evaluation.suites.lm_harness import LmHarness, figures_of
from tests.processes import FORKED, forked

RESULTS: dict[str, Any] = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy",
            "sample_len": 2376,
            "acc,none": 0.25,
            "acc_stderr,none": 0.01,
            "acc_norm,none": 0.5,
            "acc_norm_stderr,none": "N/A",
        },
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 12.5},
        "gsm8k": {"exact_match,strict-match": 0.1, "exact_match_stderr,strict-match": 0.02},
    },
    "higher_is_better": {
        "arc_easy": {"acc": True, "acc_norm": True},
        "wikitext": {"word_perplexity": False},
    },
    "n-samples": {"arc_easy": {"original": 2376, "effective": 100}},
}


@pytest.fixture
def subject(tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast) -> Subject:
    return Subject("tiny", tiny_model, tiny_tokenizer, Encoder(tiny_tokenizer), "")


def test_results_as_figures() -> None:
    """0.25 with a standard error of 0.01: from 0.2304 to 0.2696."""
    figures = {figure.name: figure for figure in figures_of(RESULTS)}
    assert list(figures) == [
        "arc_easy/acc",
        "arc_easy/acc_norm",
        "wikitext/word_perplexity",
        "gsm8k/exact_match.strict-match",
    ]
    first = figures["arc_easy/acc"]
    assert (first.value, first.count, first.better) == (0.25, 100, "higher")
    assert (first.low, first.high) == pytest.approx((0.2304, 0.2696), abs=1e-6)
    assert (figures["arc_easy/acc_norm"].low, figures["arc_easy/acc_norm"].value) == (None, 0.5)
    assert figures["wikitext/word_perplexity"].better == "lower"
    assert figures["gsm8k/exact_match.strict-match"].better == "neither"
    assert figures_of({}) == []


def test_the_model_is_handed_over_as_it_is(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the harness's two names takes what the adapter gives."""
    asked: dict[str, Any] = {}

    def simple_evaluate(model: Any, **settings: Any) -> dict[str, Any]:
        asked.update(settings, model=model)
        return RESULTS

    stand_in = SimpleNamespace(simple_evaluate=simple_evaluate)
    monkeypatch.setitem(sys.modules, "lm_eval", stand_in)
    models = SimpleNamespace(HFLM=lambda **given: given)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    suite = LmHarness(["arc_easy"], limit=5, shots=3)
    (found,) = suite.answer(subject, suite.probes(None))
    assert json.loads(found.replies[0]) == RESULTS
    assert asked["model"]["pretrained"] is subject.model
    words = asked["model"]["tokenizer"]
    assert words.apply_chat_template.keywords["date_string"] == "26 Jul 2024"
    assert words.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    assert (asked["tasks"], asked["limit"], asked["num_fewshot"]) == (["arc_easy"], 5, 3)


def test_as_a_suite_each_task_is_kept_once(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks, run once; other settings are another key."""
    ran: list[Any] = []

    def simple_evaluate(model: Any, **settings: Any) -> dict[str, Any]:
        (task,) = settings["tasks"]
        ran.append((task, settings["limit"]))
        return {**RESULTS, "results": {task: RESULTS["results"][task]}, "config": object()}

    monkeypatch.setitem(sys.modules, "lm_eval", SimpleNamespace(simple_evaluate=simple_evaluate))
    models = SimpleNamespace(HFLM=lambda **given: given)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    suite = LmHarness(["arc_easy", "wikitext"])
    results = [run_suite(suite, subject, Store(tmp_path)) for _ in range(2)]
    assert ran == [("arc_easy", None), ("wikitext", None)]
    assert results[0] == results[1]
    names = [figure.name for figure in results[0].figures]
    assert names == ["arc_easy/acc", "arc_easy/acc_norm", "wikitext/word_perplexity"]
    run_suite(LmHarness(["wikitext"], limit=3), subject, Store(tmp_path))
    assert ran[2:] == [("wikitext", 3)]


@FORKED
def test_the_package_is_not_imported_unless_its_suite_is_used() -> None:
    """Where the package is missing, the file of the suite can be imported."""

    def again() -> int:
        for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
            del sys.modules[name]
        sys.modules["lm_eval"] = None  # type: ignore[assignment]  # as if it were not installed
        return 0 if importlib.reload(lm_harness).LmHarness.name == "lm_harness" else 1

    assert forked(again) == 0


def test_a_missing_package_is_said_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(InputError, match=r"pip install 'lit-unlearn\[lm-eval\]'"):
        LmHarness(["arc_easy"]).probes(None)
    with pytest.raises(InputError, match="should name at least one task"):
        LmHarness([])
