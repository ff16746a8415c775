"""Estimates from Gramians: rest, means, intervals, differences, all by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import AT_REST, AT_REST_HALF
from lit_unlearn.interference_study.estimates import (
    differences,
    estimates,
    expanded,
    masked_cosines,
    resting,
)
from lit_unlearn.interference_study.interference_page import read_figures, write_figures
from lit_unlearn.interference_study.measure import Measurement
from lit_unlearn.metrics.functional.statistics import bootstrap_mean

NAMES = ["a", "b"]


def gramians(cosines: list[float], norm: float = 2.0) -> Tensor:
    """``[K, 2, 2, 2]``: one group, which is the whole; norms 1 and ``norm``."""
    one = [[[1.0, c * norm], [c * norm, norm**2]] for c in cosines]
    return torch.tensor(one, dtype=torch.float64)[:, None].repeat(1, 2, 1, 1)


def measured(cosines: list[float]) -> Measurement:
    rows = torch.randn(1, 6, 3)
    return Measurement(
        ("block.00",),
        {8: gramians([0.0, 0.0]), 16: gramians(cosines)},
        transfer=[torch.tensor([[-1.0, 0.5], [0.25, -2.0]])],
        expected=[torch.tensor([[-1.0, 0.5], [0.25, -2.0]])],
        states={"a": rows, "b": rows},
        tokens={"a": [[1, 2]] * 6, "b": [[3, 4]] * 6},
    )


def test_means_and_shares_by_hand() -> None:
    found = {
        (x.figure, x.first, x.second, x.where, x.tokens): x
        for x in estimates("raw", measured([0.5, -0.1, 0.2]), NAMES)
    }
    whole = found["cosine", "a", "b", "whole", 16]
    assert whole.value == pytest.approx(0.2)
    assert whole.low >= -0.1 - 1e-9
    assert whole.high <= 0.5 + 1e-9
    assert whole.samples == 3
    assert found["share of batches in conflict", "a", "b", "whole", 16].value == pytest.approx(
        1 / 3
    )
    assert found["share of conflicting pairs", "", "", "whole", 16].value == pytest.approx(1 / 3)
    assert found["gradient norm", "b", "", "whole", 16].value == pytest.approx(2.0)
    assert found["shared gain", "a", "b", "", 16].value == pytest.approx(-0.25)
    assert found["shared gain", "b", "a", "", 16].value == pytest.approx(-0.25)
    assert found["proxy A-distance", "a", "b", "block.00", 16].value == 0.0
    assert found["covariance CKA", "a", "b", "block.00", 16].value == pytest.approx(1.0)
    assert found["token divergence", "a", "b", "", 16].value == 1.0


@pytest.mark.parametrize("scale", [1.0, 1e-14])
def test_gradients_at_rest_have_no_cosine(scale: float) -> None:
    """b has a norm of 1e-8 beside 1; scaled down, both are rounding."""
    still = Measurement(("block.00",), {8: gramians([0.9], norm=1e-8) * scale})
    assert masked_cosines(still.gramians[8], AT_REST)[0, :, 0, 1].isnan().all()
    assert resting(still, NAMES) == (["b"] if scale == 1.0 else ["a", "b"])
    assert resting(measured([0.1]), NAMES) == []


def test_difference_by_hand() -> None:
    both = {"raw": measured([-0.5, -0.3]), "unified": measured([0.1, 0.3])}
    (line,) = differences(both, NAMES)
    assert (line.first, line.second, line.representation) == ("a", "b", "unified - raw")
    assert line.value == pytest.approx(0.6)
    assert 0.4 - 1e-9 <= line.low < line.value < line.high <= 0.8 + 1e-9
    assert not math.isnan(line.high)


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = estimates("raw", measured([0.5, -0.1]), NAMES)
    write_figures(tmp_path, lines, {"model": "m"})
    found = read_figures(tmp_path)
    assert repr(found) == repr(lines), "NaN included"
    text = (tmp_path / "interference.json").read_text("utf-8")
    older = text.replace('"schema_version": 1', '"schema_version": 0')
    (tmp_path / "interference.json").write_text(older)
    with pytest.raises(InputError, match="expected version 1, found 0"):
        read_figures(tmp_path)
    with pytest.raises(InputError, match=r"lit-unlearn interference`, found none"):
        read_figures(tmp_path / "elsewhere")


def test_gradients_that_bfloat16_rounds_have_no_cosine() -> None:
    """b has 1 % of the norm of a: a direction in float32, rounding in bfloat16."""
    one = gramians([0.9], norm=0.01)
    assert masked_cosines(one, AT_REST)[0, -1, 0, 1] == pytest.approx(0.9)
    assert resting(Measurement(("block.00",), {8: one}, rest_share=AT_REST_HALF), NAMES) == ["b"]


def test_one_objective_has_no_pairs_in_conflict() -> None:
    """A single objective has no pair, so no share of pairs."""
    alone = Measurement(("block.00",), {8: gramians([0.5, 0.5])[..., :1, :1]}, states={}, tokens={})
    (line,) = [
        x for x in estimates("raw", alone, ["a"]) if x.figure == "share of conflicting pairs"
    ]
    assert math.isnan(line.value)
    assert line.samples == 0


def test_shared_gain_is_that_of_the_mean_changes() -> None:
    """Own steps gain 1, 1 and .00001, steps for a give b .2 each: .6 / 2.00001, not 6,667."""
    found = measured([0.1, 0.2, 0.3])
    own, given = [-1.0, -1.0, -1e-5], [-0.2, -0.2, -0.2]
    found.transfer = [torch.tensor([[-1.0, g], [0.0, o]]) for o, g in zip(own, given, strict=True)]
    found.expected = found.transfer
    lines = {
        (x.first, x.second): x for x in estimates("raw", found, NAMES) if x.figure == "shared gain"
    }
    assert lines["a", "b"].value == pytest.approx(0.6 / 2.00001)
    assert lines["b", "a"].value == 0.0
    assert lines["a", "a"].value == lines["b", "b"].value == 1.0
    assert lines["a", "b"].samples == 3


@pytest.mark.parametrize("count", [5, 12])
def test_intervals_of_few_batches_cover_the_mean(count: int) -> None:
    """Of 300 samples of a normal distribution; plain percentiles cover about .83 and .91."""
    samples = np.random.default_rng(0).normal(size=(300, count)).tolist()
    ends = [bootstrap_mean(row, level=expanded(count), resamples=500) for row in samples]
    plain = [bootstrap_mean(row, resamples=500) for row in samples]
    covered, too_few = (
        np.mean([low <= 0 <= high for low, high in found]) for found in (ends, plain)
    )
    assert 0.9 < covered < 0.98
    assert too_few < covered
