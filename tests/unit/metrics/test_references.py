"""Metrics against torchmetrics' own, scipy, published figures and worked values."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch.testing import assert_close
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC
from torchmetrics.functional.pairwise import pairwise_cosine_similarity
from torchmetrics.text import ROUGEScore

from lit_unlearn import (
    ForgetQuality,
    GradientConflictRate,
    GradientCosine,
    InputError,
    LeakAtK,
    MembershipAUC,
    ModelUtility,
    PrivLeak,
    RefusalRate,
    Repetition,
    RougeL,
    TruthRatio,
    UnlearningBalance,
)
from lit_unlearn.metrics.functional.balance import Measured, balance
from lit_unlearn.metrics.functional.likelihood import answer_log_probs
from tests.unit.metrics.cases import OBJECTIVES, START, UTILITY, answers, balanced, packed, padded

REPLIES = ["The author wrote running stories.", "Nobody knows", "He was born in Rome, Italy"]
GOLDS = ["An author writes stories of runners", "She knew", "Born in Rome"]


@pytest.mark.parametrize("stemmer", [True, False])
def test_rouge_is_that_of_torchmetrics(stemmer: bool) -> None:
    theirs = ROUGEScore(use_stemmer=stemmer, rouge_keys="rougeL")(REPLIES, GOLDS)
    assert 0 < theirs["rougeL_recall"] < 1
    for kind, key in (("recall", "rougeL_recall"), ("f1", "rougeL_fmeasure")):
        own = RougeL(kind, stemmer=stemmer)(REPLIES, GOLDS)  # type: ignore[arg-type]
        assert own == pytest.approx(float(theirs[key]), rel=1e-6)


def test_scripts_that_torchmetrics_cannot_read() -> None:
    """Three of the four characters are there."""
    reply, gold = "\u5df4\u9ece\u662f", "\u5df4\u9ece\u662f\u7684"
    assert RougeL()(reply, gold) == 0.75
    assert ROUGEScore(rouge_keys="rougeL")(reply, gold)["rougeL_recall"] == 0


def test_a_collection_never_mixes_metrics_that_begin_alike() -> None:
    """torchmetrics joins metrics whose states are equal after the first batch, here all zero."""

    def made() -> dict[str, RefusalRate | Repetition]:
        return {"refused": RefusalRate(), "two": Repetition(2), "four": Repetition(4)}

    together, alone = MetricCollection(dict(made())), made()
    for reply in ("Paris", "a b a b c", "I don't know"):
        together.update(reply)
        for metric in alone.values():
            metric.update(reply)
    assert together.compute() == {name: metric.compute() for name, metric in alone.items()}
    assert len(set(together.compute().values())) == 3


def test_auc_is_that_of_torchmetrics_on_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    losses, known = torch.rand(40, generator=generator) * 4, torch.arange(40) % 3 == 0
    wanted = float(BinaryAUROC()((-losses).exp(), known.long()))
    assert MembershipAUC()(losses, known) == pytest.approx(wanted, rel=1e-6)
    leak = PrivLeak(retain_auc=0.6)(losses, known)
    assert leak == pytest.approx(100 * (0.6 - wanted) / 0.4, rel=1e-5)


def test_why_torchmetrics_cannot_read_a_statistic_as_it_is() -> None:
    """A batch within [0, 1] is taken as it is, another one gets a sigmoid: 0.9 above sigmoid(2)."""
    statistics, unseen = torch.tensor([0.2, 0.9, 2.0, 1.5]), torch.tensor([0, 0, 1, 1])
    split, whole = BinaryAUROC(), BinaryAUROC()(statistics, unseen)
    for part in (slice(0, 2), slice(2, 4)):
        split.update(statistics[part], unseen[part])
    assert whole == MembershipAUC()(statistics, 1 - unseen) == 1
    assert split.compute() < 1


def test_one_side_without_texts_has_no_auc() -> None:
    assert MembershipAUC()(torch.ones(2), torch.ones(2)).isnan()


def test_truth_ratio_of_logits() -> None:
    """Log-probabilities come from the same answers, padded or packed."""
    right, wrong = answers((2, 3)), answers((4, 1))
    own, others = answer_log_probs(*padded(right)), answer_log_probs(*packed(wrong))
    per_row = [-torch.nn.functional.cross_entropy(*row) for row in wrong]
    assert_close(others, torch.stack(per_row))
    ratios = (others - own).exp()
    closeness, margin, share = torch.minimum(ratios, 1 / ratios), 1 - ratios, 1 / (1 + ratios)
    for name, value in (("closeness", closeness), ("margin", margin.relu()), ("share", share)):
        found = TruthRatio(name)(own, others[:, None])  # type: ignore[arg-type]
        assert_close(found, value.mean())


def test_truth_ratio_beyond_float32() -> None:
    """x = e^2000 and e^-2000: both are as far from one as can be."""
    found = TruthRatio()(torch.tensor([-2000.0, 0.0]), torch.tensor([[0.0], [-2000.0]]))
    assert found == 0


def test_published_forget_quality(published_logs: Path) -> None:
    """D = 0.35, p = 3.9054713571083378e-22: open-unlearning's Llama-3.2-1B on forget10."""
    path = published_logs / "tofu_llama32_1b_forget_truth_ratio.json.gz"
    logged = json.loads(gzip.decompress(path.read_bytes()))
    ratios = torch.tensor(logged["full_forget10"])
    metric = ForgetQuality(logged["retain90"])
    metric.update(torch.zeros(200), ratios[:200, None].log())
    metric.update(torch.zeros(200), ratios[200:, None].log())
    assert metric.compute() == pytest.approx(3.9054713571083378e-22, rel=1e-5)
    assert not math.isfinite(ForgetQuality([1.0])(torch.zeros(1), torch.full((1, 1), math.nan)))


def test_published_truth_ratio(published_logs: Path) -> None:
    """.5160 for the rows to be forgotten, .4747 for the others: TOFU's own Llama-2-7B."""
    text = gzip.decompress((published_logs / "tofu_llama2_7b_full.json.gz").read_bytes())
    log = json.loads(text)
    for name, aggregate, wanted in (
        ("eval_log_forget.json", TruthRatio("closeness"), 0.5160),
        ("eval_log.json", TruthRatio("margin"), 0.4747),
    ):
        for key, wrong in log[name]["average_perturb_loss"].items():
            right = log[name]["avg_paraphrased_loss"][key]
            aggregate.update(-torch.tensor([right]), -torch.tensor([wrong]))
        assert aggregate.compute() == pytest.approx(wanted, abs=5e-5)


def test_utility_is_the_harmonic_mean_of_scipy() -> None:
    metric = ModelUtility()
    for group, *scores in UTILITY:
        metric.update(group, *(torch.tensor([score]) for score in scores))
    parts = [0.8, 0.375, 0.4, 0.5, 0.95, 0.7, 0.3, 0.8, 0.6]
    assert metric.compute() == pytest.approx(stats.hmean(parts), rel=1e-6)


def test_balance_is_that_of_the_means() -> None:
    rows = {
        "recall": [0.5, 0.0],
        "utility": [0.375],
        "neighbor_correct": [1.0, 0.5],
        "refused": [0.0, 0.5],
        "known": [0.125, 0.125],
        "attacked": [0.5, 0.25],
        "readable": [0.5, 0.25],
    }
    wanted = balance(START, Measured(0.25, 0.125, 0.375, 0.75, 0.25, 0.375, 0.375))
    assert 0 < wanted["score"] < 1
    for part, value in wanted.items():
        metric = UnlearningBalance(START, part)  # type: ignore[arg-type]
        for name, values in rows.items():
            metric.update(name, torch.tensor(values))
        assert metric.compute() == pytest.approx(value, rel=1e-6)


def test_cosines_are_those_of_torchmetrics() -> None:
    """Over two steps; a third, at which an objective is at rest, counts for the others only."""
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn(3, 3, 8, generator=generator, dtype=torch.float64)
    steps[2, 0] *= 1e-12
    metric, rate = GradientCosine(OBJECTIVES), GradientConflictRate(OBJECTIVES)
    for gradients in steps:
        metric.update(gradients @ gradients.T)
        rate.update(gradients @ gradients.T)
    theirs = torch.stack([pairwise_cosine_similarity(each, each) for each in steps])
    wanted = theirs[:2].mean(0)
    wanted[1:, 1:] = theirs[:, 1:, 1:].mean(0)
    assert_close(metric.compute().double(), wanted, atol=1e-6, rtol=0)
    above = torch.ones(3, 3).triu(1) > 0
    shares = [(each[above] < 0).double().mean() for each in theirs[:2]]
    shares.append((theirs[2, 1, 2] < 0).double())
    assert rate.compute() == pytest.approx(float(torch.stack(shares).mean()))


def test_gradient_curves_hold_the_pairs() -> None:
    metric = GradientCosine(OBJECTIVES)
    value = metric(torch.eye(3))
    _, axes = metric.plot([value, value])
    labels = {text.get_text() for text in axes.get_legend().get_texts()}  # type: ignore[union-attr]
    assert labels == {"forget, retain", "forget, neighbor", "retain, neighbor"}


def one(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: RougeL("precision"), r"`kind` should be one of recall, f1.*'precision'"),  # type: ignore[arg-type]
        (lambda: TruthRatio("shares"), r"`aggregate` .* did you mean share"),  # type: ignore[arg-type]
        (lambda: RougeL().update(["a", "b"], "a"), r"a text per row. Found 2 and 1"),
        (lambda: TruthRatio().update(one(2), one(3, 1)), r"shapes \[B\] and \[B, W\]"),
        (lambda: ForgetQuality([math.nan]), r"`reference` should hold"),
        (lambda: Repetition(0), r"`size` should be at least 1"),
        (lambda: LeakAtK(0), r"`k` should be at least 1"),
        (lambda: LeakAtK(3).update(one(1, 2)), r"`k` should be from 1 to .*Found 3 for 2"),
        (lambda: MembershipAUC().update(one(2), one(3)), r"both have the shape \[B\]"),
        (lambda: ModelUtility().update("retian", *[one(1)] * 3), r"`group` .*mean retain"),  # type: ignore[arg-type]
        (lambda: ModelUtility().update("retain", one(1), one(2), one(1)), r"\[\(1,\), \(2,\)"),
        (lambda: UnlearningBalance(START, "sum"), r"`part`"),  # type: ignore[arg-type]
        (lambda: balanced().update("recal", [1.0]), r"`figure` .*did you mean recall"),
        (lambda: GradientCosine(OBJECTIVES).update(one(2, 2)), r"shape \[3, 3\]"),
    ],
)
def test_mistakes_are_named(act: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        act()
