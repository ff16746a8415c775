"""Figures of several evaluations side by side, as lines and as a table."""

from __future__ import annotations

import math

import pytest
from rich.console import Console

from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.report.evaluation_table import (
    Columns,
    Marks,
    evaluation_table,
    notes,
    number,
    shown_figure,
    shown_line,
    side_by_side,
)
from tests.unit.report.records import UNIT, evaluation, figures, suite


def text_of(columns: Columns, marks: Marks | None = None) -> str:
    console = Console(width=150)
    with console.capture() as captured:
        console.print(evaluation_table(columns, marks))
    return captured.get()


def test_lines_join_figures_by_suite_and_name() -> None:
    """The second evaluation lacks `tofu` and has `muse`; the balance comes last."""
    score = Figure("balance", 0.7, "0 to 1", 3, note="of two parts")
    lines = side_by_side(
        {
            "start": evaluation(balance=[score]),
            "this": evaluation(suite("muse", [Figure("verbatim", 0.5, UNIT, 4)])),
        }
    )
    assert [(line.suite, line.name) for line in lines] == [
        ("tofu", "forget/recall"),
        ("tofu", "quality"),
        ("tofu", "nll"),
        ("muse", "verbatim"),
        ("balance", "balance"),
    ]
    assert [cell is not None for cell in lines[0].cells] == [True, False]
    assert [cell is not None for cell in lines[3].cells] == [False, True]
    assert lines[3].figure.count == 4
    assert notes(lines) == ["tofu quality: needs a reference", "balance: of two parts"]


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (None, "\u2013"),
        (Figure("a", math.nan, UNIT, 0), "\u2013"),
        (Figure("a", 0.5, UNIT, 1), "0.500"),
        (Figure("a", 0.5, UNIT, 1, 0.25, None), "0.500"),
        (Figure("a", 0.5, UNIT, 1, 0.25, 0.75), "0.500 [0.250, 0.750]"),
    ],
)
def test_shown_figure(figure: Figure | None, text: str) -> None:
    assert shown_figure(figure) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.00049, "5e-04"),
        (-0.0000123, "-1e-05"),
        (0.0005, "0.001"),
        (9.9994, "9.999"),
        (12.34, "12.3"),
        (-1234.5, "-1234"),
        (math.inf, "inf"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_counts_that_differ_are_all_shown() -> None:
    one = evaluation(suite("tofu", [Figure("a", 1.0, UNIT, 7)]))
    two = evaluation(suite("tofu", [Figure("a", 1.0, UNIT, 8)]))
    (line,) = side_by_side({"one": one, "two": two})
    assert shown_line(line, None)[1] == "7 / 8"
    (line,) = side_by_side({"one": one, "again": one})
    assert shown_line(line, None)[1] == "7"


def test_the_table_shows_everything() -> None:
    columns = {"start": evaluation(), "this": evaluation(suite("tofu", figures(0.2)))}
    text = text_of(columns, {("tofu", "forget/recall"): ["", "p 0.010 *"]})
    assert "forget/recall \u2193" in text
    assert "0.500 [0.400, 0.600]" in text
    assert "0.200 [0.100, 0.300]" in text
    assert "p 0.010 *" in text
    assert "tofu quality: needs a reference" in text
    assert text.count("needs a reference") == 1
    assert "nats per token" in text


def test_names_are_no_markup() -> None:
    record = evaluation(suite("[red]", [Figure("[bold]x", 1.0, "[dim]", 1, note="[a]")]))
    text = text_of({"[m]": record})
    assert all(part in text for part in ("[m]", "[red]", "[bold]x", "[dim]", "[a]"))
