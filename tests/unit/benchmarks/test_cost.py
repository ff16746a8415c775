"""benchmarks/cost.py: the baselines are a plain step, and the losses of open-unlearning."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_unlearn.models.forward import answer_logits
from tests.benchmark_scripts import benchmark
from tests.unit.objectives.given import SINGLE, batch_of


def test_plain_step(tiny_model: PreTrainedModel) -> None:
    """Against padded rows through transformers' own forward, one batch after the other."""
    cost = benchmark("cost")
    batches = [batch_of(SINGLE), batch_of(SINGLE[:1])]
    other = copy.deepcopy(tiny_model)
    cost.PlainStep(tiny_model)(batches)
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-5, weight_decay=0.0)
    logits = torch.cat([answer_logits(other, b.student, pack=False) for b in batches])
    targets = torch.cat([b.target_ids for b in batches if b.target_ids is not None])
    torch.nn.functional.cross_entropy(logits, targets).backward()
    norms = [float(p.grad.norm()) for p in other.parameters() if p.grad is not None]
    assert min(norms) > 1e-6  # AdamW's first step is the sign of what is not rounding
    optimizer.step()
    for one, two in zip(tiny_model.parameters(), other.parameters(), strict=True):
        assert_close(one, two, rtol=0, atol=2e-6)
    counts = cost.tokens_of(batches)
    assert counts["real"] < counts["padded"]
    assert counts["answer"] == len(targets)


def test_peer_step(tiny_model: PreTrainedModel) -> None:
    """At the start model NPO is (2 / beta) ln 2, and KL is 0; GradDiff by means over all tokens."""
    cost = benchmark("cost")
    given = {"forget": [batch_of(SINGLE)], "retain": [batch_of(SINGLE[:1])]}

    def mean_loss(name: str) -> float:
        (batch,) = given[name]
        logits = answer_logits(tiny_model, batch.student, pack=False)
        return float(torch.nn.functional.cross_entropy(logits, batch.target_ids).detach())

    forget, retain, npo = mean_loss("forget"), mean_loss("retain"), 2 / cost.BETA * math.log(2)
    expected = {"graddiff": retain - forget, "npo": npo + retain, "npo_kl": npo}
    for job, loss in expected.items():
        model = copy.deepcopy(tiny_model)
        step = cost.PeerStep(job, model)
        assert step(given) == pytest.approx(loss, rel=1e-5)
        assert any(
            not torch.equal(p, q)
            for p, q in zip(model.parameters(), tiny_model.parameters(), strict=True)
        )
        assert step(given) != pytest.approx(loss, rel=1e-6)
