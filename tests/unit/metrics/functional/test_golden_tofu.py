"""The published TOFU logs: every figure of `tests/data/README.md` to the printed digits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.metrics.functional.likelihood import (
    answer_probability,
    closeness_to_one,
    model_utility,
    probability_with_options,
    truth_margin,
    truth_ratio,
)
from lit_unlearn.metrics.functional.scores import rouge_l_recall
from lit_unlearn.metrics.functional.statistics import bootstrap_harmonic_mean, mean, two_sample_ks

FILES = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}
OPTIONS = ("real_authors", "world_facts")

# model -> group -> probability, ROUGE-L recall, truth ratio; and model utility
PUBLISHED = {
    "full": {
        "forget": (0.9909, 0.9854, 0.5160),
        "retain": (0.9895, 0.9857, 0.4747),
        "real_authors": (0.4555, 0.9330, 0.5962),
        "world_facts": (0.4186, 0.8825, 0.5390),
    },
    "retain90": {
        "forget": (0.1476, 0.4082, 0.6740),
        "retain": (0.9889, 0.9758, 0.4710),
        "real_authors": (0.4341, 0.9230, 0.5707),
        "world_facts": (0.4143, 0.8974, 0.5442),
    },
}
UTILITY = {"full": 0.6227, "retain90": 0.6137}
Rows = list[tuple[float, float, float]]


@pytest.fixture(scope="session")
def logs(published_logs: Path) -> dict[str, dict[str, Any]]:
    """Model -> group -> log."""
    found = {}
    for model in PUBLISHED:
        with gzip.open(
            published_logs / f"tofu_llama2_7b_{model}.json.gz", "rt", encoding="utf-8"
        ) as file:
            log = json.load(file)
        found[model] = {group: log[name] for group, name in FILES.items()}
    return found


@pytest.fixture(scope="session")
def rows(logs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Rows]]:
    """Model -> group -> probability, ROUGE-L recall and truth ratio of each row."""
    return {
        model: {group: list(_scores(group, log)) for group, log in groups.items()}
        for model, groups in logs.items()
    }


def _scores(group: str, log: dict[str, Any]) -> Iterator[tuple[float, float, float]]:
    for ratio, key in zip(ratios(log), log["avg_gt_loss"], strict=True):
        right, wrong = -log["avg_gt_loss"][key], [-x for x in log["average_perturb_loss"][key]]
        likely = answer_probability([right])
        if group in OPTIONS:
            likely = probability_with_options(right, wrong)
        _, reply, gold = log["generated_text"][key]
        truth = closeness_to_one(ratio) if group == "forget" else truth_margin(ratio)
        yield likely, rouge_l_recall(gold, reply), truth


def ratios(log: dict[str, Any]) -> list[float]:
    return [
        truth_ratio(-log["avg_paraphrased_loss"][key], [-loss for loss in losses])
        for key, losses in log["average_perturb_loss"].items()
    ]


@pytest.mark.parametrize("model", list(PUBLISHED))
@pytest.mark.parametrize("group", list(FILES))
def test_published_means(rows: dict[str, dict[str, Rows]], model: str, group: str) -> None:
    found = [mean(column) for column in zip(*rows[model][group], strict=True)]
    assert tuple(round(value, 4) for value in found) == PUBLISHED[model][group]


@pytest.mark.parametrize("model", list(PUBLISHED))
def test_published_model_utility(rows: dict[str, dict[str, Rows]], model: str) -> None:
    groups = [rows[model][group] for group in FILES if group != "forget"]
    parts = [mean(column) for group in groups for column in zip(*group, strict=True)]
    assert round(model_utility(parts), 4) == UTILITY[model]
    low, high = bootstrap_harmonic_mean(groups)
    assert low < model_utility(parts) < high
    assert high - low < 0.08


def test_published_forget_quality(logs: dict[str, dict[str, Any]]) -> None:
    """D = 0.396667, p = 1.834066e-21; the same for 1/x."""
    own, theirs = (ratios(logs[model]["forget"]) for model in PUBLISHED)
    found = two_sample_ks(own, theirs)
    assert f"{found.distance:.6f}" == "0.396667"
    assert f"{found.p_value:.6e}" == "1.834066e-21"
    inverted = two_sample_ks([1 / x for x in own], [1 / x for x in theirs])
    assert inverted.p_value == pytest.approx(found.p_value)


def test_published_forget_quality_of_open_unlearning(published_logs: Path) -> None:
    """D = 0.35, p = 3.9054713571083378e-22, from the logs of Llama-3.2-1B on forget10."""
    path = published_logs / "tofu_llama32_1b_forget_truth_ratio.json.gz"
    logged = json.loads(gzip.decompress(path.read_bytes()))
    found = two_sample_ks(logged["full_forget10"], logged["retain90"])
    assert found.distance == pytest.approx(0.35)
    assert found.p_value == pytest.approx(3.9054713571083378e-22, rel=1e-12)


def test_ratios_are_those_that_the_log_holds(logs: dict[str, dict[str, Any]]) -> None:
    """TOFU's code stores exp(loss right - mean loss wrong), our x, for every row."""
    log = logs["full"]["forget"]
    stored = [log["truth_ratio"][key] for key in log["average_perturb_loss"]]
    assert ratios(log) == pytest.approx(stored, rel=1e-4)
