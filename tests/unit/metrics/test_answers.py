"""Metrics of teacher-forced answers against torch, torchmetrics and a search by brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.text import Perplexity

from lit_unlearn import AnswerNLL, AnswerProbability, ExactMemorisation, ExtractionStrength
from tests.unit.metrics.cases import answers, packed, padded

ROWS = answers()


def collection() -> MetricCollection:
    return MetricCollection(
        {
            "nll": AnswerNLL(),
            "probability": AnswerProbability(),
            "strength": ExtractionStrength(),
            "strength_to_the_end": ExtractionStrength(end_of_turn=True),
            "memorised": ExactMemorisation(end_of_turn=True),
        }
    )


def test_likelihood_is_that_of_torch() -> None:
    losses = [F.cross_entropy(logits, labels).double() for logits, labels in ROWS]
    metric = collection()
    metric.update(*packed(ROWS))
    found = metric.compute()
    assert found["nll"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-6)
    wanted = float(torch.stack(losses).neg().exp().mean())
    assert found["probability"] == pytest.approx(wanted, rel=1e-6)


def test_one_row_is_the_perplexity_and_accuracy_of_torchmetrics() -> None:
    batch = padded(ROWS[2:3])
    perplexity, accuracy = Perplexity(ignore_index=-100), MulticlassAccuracy(6, average="micro")
    assert float(AnswerNLL()(*batch).exp()) == pytest.approx(float(perplexity(*batch)), rel=1e-6)
    memorised = ExactMemorisation(end_of_turn=True)(*batch)
    assert memorised == pytest.approx(float(accuracy(batch[0].flatten(0, 1), batch[1].flatten())))


def test_strength_is_found_by_trying_every_beginning() -> None:
    strengths = []
    for logits, labels in ROWS:
        said, gold = logits.argmax(-1).tolist()[:-1], labels.tolist()[:-1]
        given = next(k for k in range(len(gold) + 1) if said[k:] == gold[k:])
        strengths += [1 - given / len(gold)] if gold else []
    assert len(strengths) == len(ROWS) - 1  # one answer is nothing but its last token
    assert 0 < sum(strengths) < len(strengths)
    metric = ExtractionStrength()
    metric.update(*padded(ROWS))
    assert metric.compute() == pytest.approx(sum(strengths) / len(strengths), rel=1e-6)


def test_a_collection_reads_the_logits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five metrics are one compute group, and each gives what it gives alone."""
    metric, alone = collection(), collection()
    alone = MetricCollection(dict(alone.items()), compute_groups=False)
    for part in (ROWS[:2], ROWS[2:]):
        metric.update(*padded(part))
        alone.update(*padded(part))
    assert len(metric.compute_groups) == 1
    assert metric.compute() == alone.compute()
    assert metric["strength"].compute() != metric["strength_to_the_end"].compute()


def test_log_probabilities_and_bfloat16_are_read_like_logits() -> None:
    logits, labels = padded(ROWS)
    wanted, metric = AnswerNLL()(logits, labels), AnswerNLL()
    assert metric(logits.log_softmax(-1), labels) == pytest.approx(float(wanted), rel=1e-6)
    half = AnswerNLL()(logits.bfloat16(), labels)
    assert half == pytest.approx(float(AnswerNLL()(logits.bfloat16().float(), labels)), rel=1e-6)


def test_rows_without_an_answer_do_not_count() -> None:
    logits, labels = padded(ROWS)
    more = torch.cat([labels, torch.full_like(labels[:1], -100)])
    found = AnswerNLL()(torch.cat([logits, logits[:1]]), more)
    assert found == AnswerNLL()(logits, labels)
    assert AnswerNLL()(logits[:1], more[-1:]).isnan()


def test_logits_that_are_no_numbers_are_not_hidden() -> None:
    broken = torch.full((1, 3, 6), math.nan)
    metric = collection()
    metric.update(broken, torch.zeros(1, 3, dtype=torch.long))
    assert all(value.isnan() for value in metric.compute().values())


def test_no_gradient_is_kept() -> None:
    logits, labels = padded(ROWS)
    metric = AnswerNLL()
    assert not metric(logits.requires_grad_(), labels).requires_grad
    assert not any(each.requires_grad for each in metric.metric_state["answer_log_probs"])
