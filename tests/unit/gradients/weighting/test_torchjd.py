from __future__ import annotations

import sys

import pytest
import torch
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import MGDA, TorchJD
from tests.inputs import GRAMIANS


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "torchjd"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(InputError, match=r"pip install 'lit-unlearn\[torchjd\]'"):
        TorchJD("MGDA")


@pytest.mark.parametrize("name", ["MGDA", "MGDAWeighting", "torchjd.aggregation.MGDAWeighting"])
def test_name_of_an_aggregator_or_a_weighting(name: str) -> None:
    pytest.importorskip("torchjd")
    weighting = TorchJD(name, {"epsilon": 1e-12, "max_iters": 3000})
    expected = MGDA()(GRAMIANS["conflicting"])
    assert_close(weighting(GRAMIANS["conflicting"]), expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", ["MeanWeighting", "Krum", "AlignedMTL", "IMTLG", "PCGrad"])
def test_one_float64_weight_per_objective(name: str) -> None:
    pytest.importorskip("torchjd")
    gramian = GRAMIANS["random_4"]
    weights = TorchJD(name, {"n_byzantine": 1} if name == "Krum" else None)(gramian)
    assert weights.shape == (4,)
    assert weights.dtype == torch.float64
    assert weights.isfinite().all()


def test_non_finite_gradients_come_through() -> None:
    pytest.importorskip("torchjd")
    assert TorchJD("MeanWeighting")(torch.full((2, 2), torch.nan).double()).isnan().all()


def test_state_never_breaks_a_checkpoint() -> None:
    """GradVac registers a buffer in its first step, which no checkpoint has."""
    pytest.importorskip("torchjd")
    used = TorchJD("GradVac")
    used(GRAMIANS["random_3"])
    assert used.state_dict() == {}
    TorchJD("GradVac").load_state_dict(used.state_dict())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Nothing", None, "should be a class of torchjd.aggregation"),
        ("no_such_package.Thing", None, "no_such_package"),
        ("MGDA", {"epsilon": -1.0}, "cannot make MGDA"),
        ("MGDA", {"epsylon": 1.0}, "cannot make MGDA"),
        (
            "TrimmedMean",
            {"trim_number": 1},
            r"should be a weighting of the Gramian.*Found TrimmedMean",
        ),
    ],
)
def test_bad_input(name: str, arguments: dict[str, float] | None, message: str) -> None:
    pytest.importorskip("torchjd")
    with pytest.raises(InputError, match=message):
        TorchJD(name, arguments)
