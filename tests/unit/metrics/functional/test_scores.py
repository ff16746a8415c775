"""Tests of `lit_unlearn.metrics.functional.scores`: worked values, and the published TOFU log."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
import torch

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.scores import (
    is_correct,
    mean_nll_per_row,
    rouge_l_f1,
    rouge_l_recall,
)

# ------------------------------------------------------------------------------------ ROUGE-L


def test_rouge_l_worked_by_hand() -> None:
    """Reference "the cat sat on the mat" (6 words), reply "the cat lay on a mat there" (7).

    Longest common subsequence: the cat on mat = 4. Recall 4/6, precision 4/7,
    F1 = 2 * (4/6) * (4/7) / (4/6 + 4/7) = 8/13.
    """
    reference, generated = "the cat sat on the mat", "The cat lay on a mat, there!"
    assert rouge_l_recall(reference, generated) == pytest.approx(4 / 6)
    assert rouge_l_f1(reference, generated) == pytest.approx(8 / 13)


def test_rouge_l_recall_ignores_what_is_said_besides() -> None:
    assert rouge_l_recall("in Lima", "She was born in Lima in the year 1961") == 1.0
    assert rouge_l_f1("in Lima", "in Lima") == 1.0


def test_stemmer_joins_inflected_words() -> None:
    """walking -> walk, walked -> walk with Porter stems; no word in common without."""
    assert rouge_l_recall("walking", "walked") == 1.0
    assert rouge_l_recall("walking", "walked", stemmer=False) == 0.0
    assert rouge_l_f1("walking", "walked", stemmer=False) == 0.0


@pytest.mark.parametrize(
    ("reference", "generated"), [("", "x"), ("x", ""), ("", ""), ("東京", "東京")]
)
def test_rouge_l_without_words_is_zero(reference: str, generated: str) -> None:
    assert rouge_l_recall(reference, generated) == 0.0


@pytest.mark.parametrize(
    ("log", "published"), [("eval_log_forget.json", 0.9854), ("eval_log.json", 0.9857)]
)
def test_rouge_l_recall_equals_the_published_tofu_log(
    published_logs: Path, log: str, published: float
) -> None:
    """Mean ROUGE-L recall of Llama-2-7B fine-tuned on TOFU, from its 300 logged replies."""
    with gzip.open(
        published_logs / "tofu_llama2_7b_full.json.gz", "rt", encoding="utf-8"
    ) as handle:
        rows = json.load(handle)[log]["generated_text"]
    rows = list(rows.values()) if isinstance(rows, dict) else rows
    scores = [rouge_l_recall(gold, generated) for _, generated, gold in rows]
    assert sum(scores) / len(scores) == pytest.approx(published, abs=5e-5)


# ------------------------------------------------------------------------------------ correct


@pytest.mark.parametrize(
    ("generated", "accepted"),
    [
        ("The capital is PARIS.", ["Paris"]),
        ("It was the “Eiffel Tower”, of course", ["eiffel tower"]),
        ("It has twelve moons", ["12"]),
        ("It has 12 moons", ["Twelve"]),
        ("twenty-one", ["twenty one"]),
        ("In 1,200 cases", ["1200"]),
        ("About 3.14", ["3.14"]),
        ("Juliet\u2019s house", ["Juliet"]),
        ("O'Brien wrote it", ["OBrien"]),
        ("Bogota is the capital", ["Bogotá"]),
        ("ﬁve", ["5"]),
        ("the United States of America", ["USA", "The United States"]),
        ("答案是巴黎。", ["巴黎"]),
        ("Vitamin A", ["A"]),
        ("use the + sign", ["+"]),
    ],
)
def test_correct(generated: str, accepted: list[str]) -> None:
    assert is_correct(generated, accepted)


@pytest.mark.parametrize(
    ("generated", "accepted"),
    [
        ("", ["Paris"]),
        ("Parisian", ["Paris"]),
        ("It has 112 moons", ["12"]),
        ("twenty-one", ["20", "1"]),
        ("twenty-one", ["twenty"]),
        ("one hundred", ["1"]),
        ("About 3.14", ["3"]),
        ("In 1,200 cases", ["1", "200"]),
        ("Vitamin C", ["A"]),
        ("tower Eiffel", ["Eiffel tower"]),
    ],
)
def test_not_correct(generated: str, accepted: list[str]) -> None:
    assert not is_correct(generated, accepted)


def test_negated_answer_is_found_all_the_same() -> None:
    assert is_correct("It is not Paris.", ["Paris"])


def test_correct_needs_an_accepted_answer() -> None:
    with pytest.raises(InputError, match="accepted: expected at least one"):
        is_correct("Paris", [])


# --------------------------------------------------------------------------------- likelihood


def test_mean_nll_worked_by_hand() -> None:
    """Row 0 has probabilities 1/2 and 1/8: (ln 2 + ln 8) / 2 = 2 ln 2; row 2 has 1/4: 2 ln 2.

    Row 1 has no token: NaN.
    """
    log_probs = torch.tensor([0.5, 0.25, 0.125]).log()
    found = mean_nll_per_row(log_probs, torch.tensor([0, 2, 0]), 3)
    assert found[[0, 2]].tolist() == pytest.approx([2 * math.log(2)] * 2)
    assert math.isnan(found[1])


def test_mean_nll_row_order_changes_nothing_and_bf16_is_summed_in_fp32() -> None:
    log_probs = -torch.rand(200)
    rows = torch.randint(4, (200,))
    wanted = mean_nll_per_row(log_probs, rows, 4)
    order = torch.randperm(200)
    torch.testing.assert_close(mean_nll_per_row(log_probs[order], rows[order], 4), wanted)
    assert mean_nll_per_row(log_probs.bfloat16(), rows, 4).dtype == torch.float32
    assert mean_nll_per_row(log_probs.double(), rows, 4).dtype == torch.float64


def test_mean_nll_of_nothing() -> None:
    assert mean_nll_per_row(torch.empty(0), torch.empty(0, dtype=torch.int64), 2).isnan().all()


@pytest.mark.parametrize(
    ("log_probs", "rows", "message"),
    [
        (torch.zeros(2), torch.zeros(3, dtype=torch.int64), "two vectors of one length"),
        (torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), "two vectors of one length"),
        (torch.zeros(2), torch.tensor([0, 2]), "from 0 to 1 .batch_size 2., found 0 to 2"),
    ],
)
def test_mean_nll_bad_shapes(log_probs: torch.Tensor, rows: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_nll_per_row(log_probs, rows, 2)
