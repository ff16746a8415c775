"""`diagnostics: sketch`: the figures of the exact Gramian, nearly, and the same training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_unlearn.callbacks import GradientMonitor
from lit_unlearn.gradients.diagnostics import cosines, norms
from lit_unlearn.gradients.weighting import MGDA
from lit_unlearn.report import read_gradients
from tests.small_runs import fit, module, weights
from tests.unit.callbacks.test_callbacks import fit as fit_with_callbacks


def test_cosines_come_near_the_exact_ones_and_training_is_the_same(tmp_path: Path) -> None:
    """Cosines and norms: 0.02 is more than four deviations of 2^16 sums and four groups."""
    exact, sketched = module(), module(diagnostics="sketch")
    one = fit(tmp_path / "a", exact, steps=3).records
    other = fit(tmp_path / "b", sketched, steps=3).records
    assert [r["diagnostics"] for r in other] == ["sketch", "exact", "sketch"]  # the second: neither
    assert other[1]["gramian"] is None
    true, found = one[2]["gramian"], other[2]["gramian"]
    assert found.groups == true.groups
    torch.testing.assert_close(cosines(found.whole), cosines(true.whole), rtol=0, atol=0.02)
    torch.testing.assert_close(cosines(found.by_group), cosines(true.by_group), rtol=0, atol=0.02)
    torch.testing.assert_close(norms(found.whole), norms(true.whole), rtol=0.02, atol=0)
    torch.testing.assert_close(one[2]["weights"], other[2]["weights"])
    for a, b in zip(weights(exact), weights(sketched), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_weighting_that_needs_the_gramian_gets_the_exact_one(tmp_path: Path) -> None:
    record = fit(tmp_path, module(MGDA(), diagnostics="sketch"), steps=1).records[0]
    assert record["diagnostics"] == "exact"
    assert record["gramian"] is not None


@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)`")
def test_the_table_says_which_it_was(tmp_path: Path) -> None:
    fit_with_callbacks(tmp_path, module(diagnostics="sketch"), [GradientMonitor(0)], steps=3)
    rows = read_gradients(tmp_path / "gradients.jsonl")
    assert [row["diagnostics"] for row in rows] == ["sketch", "sketch"]
    assert all(abs(row["cosines"][0][2]) <= 1 for row in rows[1:])
