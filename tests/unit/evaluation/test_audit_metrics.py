"""`audit-metrics`: which figures are believed, on made-up pools."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from lit_unlearn.__main__ import main
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.audit_metrics import Pools, audit_metrics
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.record_files import write_evaluation
from tests.unit.report.records import UNIT, evaluation, suite


def written(folder: Path, name: str, said: float, uds: float) -> str:
    figures = [
        Figure("forget/extraction_strength", said, UNIT, 4, better="lower"),
        Figure("forget/uds", uds, UNIT, 4, better="higher"),
        Figure("reworded/recall", 0.1, UNIT, 4, better="lower"),
        Figure("forget/lens_erasure", uds, UNIT, 4, better="higher"),
        Figure("forget/repetition", 0.1, UNIT, 4, better="lower"),
        Figure("neighbor/refused", said, UNIT, 4, better="lower"),
        Figure("forget/length", said, "words", 4),
        Figure("forget/recall", math.nan, UNIT, 0, better="lower"),
    ]
    write_evaluation(folder / name, evaluation(suite("depth", figures)))
    return str(folder / name)


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    """Extraction strength mixes the pools up; the depth score orders them, upside down."""

    def several(name: str, values: Sequence[tuple[float, float]]) -> list[str]:
        return [written(tmp_path, f"{name}{i}", *pair) for i, pair in enumerate(values)]

    return Pools(
        knowing=several("knowing", [(0.9, 0.1), (0.2, 0.2)]),
        ignorant=several("ignorant", [(0.1, 0.8), (0.3, 0.9)]),
        unlearned=several("unlearned", [(0.1, 0.8)]),
        relearned=several("relearned", [(0.5, 0.7)]),
        quantised=several("quantised", [(0.1, 0.8)]),
        retain=written(tmp_path, "retain", 0.1, 0.9),
        retain_relearned=written(tmp_path, "retain_relearned", 0.1, 0.8),
    )


def test_figures_of_forgetting_are_ranked(pools: Pools, tmp_path: Path) -> None:
    found = audit_metrics(pools, tmp_path / "out")
    assert [each.figure for each in found] == [
        *("forget/uds", "forget/lens_erasure"),
        *("reworded/recall", "forget/extraction_strength"),
    ]
    depth, lens, reworded, said = found
    assert (depth.faithfulness, lens.faithfulness, reworded.faithfulness) == (1, 1, 0.5)
    assert (lens.published, reworded.published) == (
        (0.927, 0.8116, 0.9587),
        (0.832, 0.0637, 0.9507),
    )
    assert (depth.knowing, depth.ignorant) == pytest.approx((0.85, 0.15))
    assert (depth.relearning, depth.quantisation) == pytest.approx((1, 1))
    assert depth.published == (0.971, 0.8997, 0.9677)
    assert said.faithfulness == 0.75
    assert said.low < 0.75 < said.high
    assert (said.relearning, said.quantisation) == pytest.approx((0, 1), abs=1e-9)
    assert said.overall == pytest.approx(0, abs=1e-9)
    content = json.loads((tmp_path / "out" / "audit_metrics.json").read_text("utf-8"))
    assert [each["figure"] for each in content["metrics"]] == [each.figure for each in found]
    assert content["pools"]["retain"] == [pools.retain]


def test_a_figure_that_changed_models_lack_has_no_robustness(pools: Pools, tmp_path: Path) -> None:
    figures = [Figure("forget/uds", 0.7, UNIT, 4, better="higher")]
    write_evaluation(tmp_path / "relearned0", evaluation(suite("depth", figures)))
    depth, *others = audit_metrics(pools)
    assert depth.robustness == pytest.approx(1)
    assert len(others) == 3
    assert all(math.isnan(each.relearning) and math.isnan(each.overall) for each in others)
    assert all(each.quantisation == pytest.approx(1) for each in others)


def test_the_command_shows_a_table(
    pools: Pools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without changed models there is no robustness, and the most faithful figure is first."""
    lists = ["--knowing", *map(str, pools.knowing), "--ignorant", *map(str, pools.ignorant)]
    assert main(["audit-metrics", *lists, f"--output={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "0.97 / 0.90 / 0.97" in out
    assert "a faithfulness of 1 with probability 0.17" in " ".join(out.split())  # 1 of 6 orders
    assert out.index("forget/uds") < out.index("forget/extraction_strength")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"knowing": []}, "`knowing`"),
        ({"unlearned": []}, r"`relearned` .* Found 1 for 0"),
        ({"retain": None}, "`retain` and `retain_relearned`"),
        ({"ignorant": ["nowhere"]}, "nowhere"),
    ],
)
def test_pools_that_do_not_fit(pools: Pools, changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        audit_metrics(Pools(**(vars(pools) | changed)))  # type: ignore[arg-type]


def test_evaluations_without_a_common_figure(pools: Pools, tmp_path: Path) -> None:
    other = evaluation(suite("muse", [Figure("forget/recall", 0.1, UNIT, 4, better="lower")]))
    write_evaluation(tmp_path / "other", other)
    with pytest.raises(InputError, match="common figure"):
        audit_metrics(Pools(pools.knowing, [tmp_path / "other"]))
