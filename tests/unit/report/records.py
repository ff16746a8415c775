"""Evaluations made up for tests of what is shown of them."""

from __future__ import annotations

import math

from lit_unlearn.evaluation.probes import Figure, Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord

UNIT = "share of rows, 0 to 1"


def row(number: int, score: float = 1.0, group: str = "forget", reply: str = "reply") -> Row:
    return Row(
        f"{group}/{number}",
        group,
        {"recall": score, "undefined": math.nan},
        f"Question {number}?",
        "gold",
        reply,
    )


def suite(
    name: str, figures: list[Figure], rows: list[Row] | None = None, **settings: object
) -> SuiteRecord:
    members = [row(0), row(1, 0.25)] if rows is None else rows
    return SuiteRecord(name, {"class": "Any", **settings}, 1.5, 2.5, members, figures)


def figures(value: float = 0.5) -> list[Figure]:
    return [
        Figure("forget/recall", value, UNIT, 2, value - 0.1, value + 0.1, "lower"),
        Figure("quality", math.nan, "p-value, 0 to 1", 0, note="needs a reference"),
        Figure("nll", 3.0, "nats per token", 2, better="neither"),
    ]


def evaluation(
    *suites: SuiteRecord, model: str = "a/model", balance: list[Figure] | None = None
) -> EvaluationRecord:
    found = suites or (suite("tofu", figures()),)
    return EvaluationRecord(
        model,
        "f1",
        {record.suite: record for record in found},
        {"dtype": "float32"},
        {"torch": "2"},
        balance or [],
    )
