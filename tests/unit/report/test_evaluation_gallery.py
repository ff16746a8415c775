"""Which pictures are drawn, and what is in them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.report.drawing import save_pictures
from lit_unlearn.report.evaluation_gallery import balance_parts, gallery
from lit_unlearn.report.evaluation_pictures import (
    balance_picture,
    recovery_picture,
    suite_picture,
)
from lit_unlearn.report.evaluation_table import Line, side_by_side
from tests.unit.report.records import UNIT, evaluation, figures, suite


def relearned(*values: float) -> EvaluationRecord:
    """Recall un-attacked, then after 5, 10, ... steps on two sets of rows."""
    names = ["unattacked/recall", *(f"forget/{5 * n}/recall" for n in range(1, len(values)))]
    found = [Figure(name, v, UNIT, 2) for name, v in zip(names, values, strict=True)]
    other = Figure("retain/5/recall", 0.1, UNIT, 2)
    record = suite("relearn", [*found, other, Figure("forget/5/refused", 0.0, UNIT, 2)])
    return evaluation(
        type(record)("relearn", {"class": "Relearn"}, 1.0, 1.0, record.rows, record.figures)
    )


def parts(*values: float) -> list[Figure]:
    names = ["part/forgetting", "part/utility", "part/boundary", "part/robustness"]
    found = [Figure(name, v, "0 to 1", 3) for name, v in zip(names, values, strict=False)]
    return [Figure("balance", 0.5, "0 to 1", 3), *found]


def test_bars_are_the_values_and_lines_the_intervals() -> None:
    """Shares and nats get a panel each; the NaN gets no bar, hence no panel of its unit."""
    columns = {"start": evaluation(), "this": evaluation(suite("tofu", figures(0.2)))}
    picture = suite_picture(list(columns), side_by_side(columns))
    shares, nats = picture.axes
    assert (shares.get_title(loc="left"), nats.get_title(loc="left")) == (UNIT, "nats per token")
    assert [bar.get_width() for bar in shares.patches] == [0.5, 0.2]
    np.testing.assert_allclose(
        [line.get_xdata() for line in shares.lines], [[0.4, 0.6], [0.1, 0.3]]
    )
    (legend,) = picture.legends
    assert [text.get_text() for text in legend.get_texts()] == ["start", "this"]


def test_a_column_without_the_figure_says_so() -> None:
    columns = {"start": evaluation(), "this": evaluation(suite("tofu", figures(math.nan)))}
    picture = suite_picture(list(columns), side_by_side(columns))
    assert " not measured" in [text.get_text() for text in picture.axes[0].texts]


def test_the_recovery_curve_starts_without_relearning() -> None:
    columns = {"start": relearned(0.75, 0.5, 1.0), "this": relearned(0.0, 0.25, 0.5)}
    pictures = gallery(columns)
    assert list(pictures) == [
        "relearn",
        "relearn recall after relearning from forget",
        "relearn recall after relearning from retain",
    ]
    start, this = pictures["relearn recall after relearning from forget"].axes[0].lines
    np.testing.assert_array_equal(start.get_xydata(), [[0, 0.75], [5, 0.5], [10, 1.0]])
    np.testing.assert_array_equal(this.get_xydata(), [[0, 0.0], [5, 0.25], [10, 0.5]])


def test_other_suites_have_no_recovery_curve() -> None:
    record = suite("words", [Figure("words/3/recall", 0.5, UNIT, 2)])
    assert list(gallery({"this": evaluation(record)})) == ["words"]


def test_the_radar_shows_the_parts_and_not_the_score() -> None:
    columns = {"this": evaluation(balance=parts(0.1, 0.2, 0.3, 0.4)), "other": evaluation()}
    found = balance_parts(columns)
    expected = {"forgetting": 0.1, "utility": 0.2, "boundary": 0.3, "robustness": 0.4}
    assert found == {"this": expected}
    (axes,) = balance_picture(found).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.1, 0.2, 0.3, 0.4, 0.1])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["forgetting", "utility", "boundary", "robustness"]
    assert "balance" in gallery(columns)


def test_no_radar_of_parts_that_are_not_known() -> None:
    known = evaluation(balance=parts(0.1, 0.2, math.nan, math.nan))
    assert "balance" not in gallery({"this": known})


def test_nothing_is_drawn_of_a_suite_without_values() -> None:
    record = suite("tofu", [Figure("a", math.nan, UNIT, 0)])
    assert gallery({"this": evaluation(record)}) == {}


def test_pictures_are_files_on_white_ground(tmp_path: Path) -> None:
    record = evaluation(suite("a suite/1", figures()), balance=parts(0.1, 0.2, 0.3, 0.4))
    files = save_pictures(tmp_path / "made", gallery({"this": record}))
    assert [file.name for file in files] == ["a_suite_1.png", "balance.png"]
    for file in files:
        pixels = imread(file)
        np.testing.assert_array_equal(pixels[0, 0], [1, 1, 1, 1])
        assert pixels[..., :3].min() < 0.5


@pytest.mark.parametrize("figure", [None, Figure("a", math.nan, UNIT, 0)])
def test_pictures_of_nothing_are_refused(figure: Figure | None) -> None:
    with pytest.raises(InputError, match="at least one figure with a value"):
        suite_picture(["this"], [Line("tofu", "a", [figure])])
    with pytest.raises(InputError, match="at least one point of relearning"):
        recovery_picture({"this": []}, "recall", UNIT)
    with pytest.raises(InputError, match="at least three for a radar picture"):
        balance_picture({"this": {"utility": 0.5, "forgetting": 0.5}})
