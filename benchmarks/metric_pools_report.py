"""Tables of benchmarks/metric_pools.py."""

import math
from collections.abc import Mapping, Sequence

from lit_unlearn.evaluation.audit_metrics import AuditedMetric, Pools
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.records import EvaluationRecord

BALANCE = ("balance", *(f"part/{p}" for p in ("forgetting", "utility", "boundary")))
BALANCE += ("part/robustness", "part/readability")
SHOWN = (
    ("tofu", "forget/probability"),
    ("tofu", "forget/extraction_strength"),
    ("tofu", "forget/rouge_l_recall"),
    ("depth", "forget/uds"),
)


def markdown(
    pools: Pools,
    found: Sequence[AuditedMetric],
    records: Mapping[str, EvaluationRecord],
    balances: Mapping[str, Sequence[Figure]],
    failures: Sequence[str],
) -> str:
    """Return the audit, what single models know, and the balances of the unlearned models."""
    sides = f"{len(pools.knowing)} knowing, {len(pools.ignorant)} ignorant, "
    parts = [
        f"{sides}{len(pools.unlearned)} unlearned models",
        "",
        *_audit(found),
        "",
        *_models(records),
    ]
    if balances:
        parts += ["", *_balances(balances)]
    return "\n".join([*parts, *(f"failed: {text}" for text in failures)]) + "\n"


def _audit(found: Sequence[AuditedMetric]) -> list[str]:
    heads = ["suite", "figure", "know", "never", "faithfulness", "relearning", "4 bit"]
    lines = _head([*heads, "robustness", "overall", "published: faithful, relearning, 4 bit"])
    for each in found:
        faithful = f"{_cell(each.faithfulness)} [{_cell(each.low)}, {_cell(each.high)}]"
        robust = (each.relearning, each.quantisation, each.robustness, each.overall)
        cells = [each.suite, each.figure, *map(_cell, (each.knowing, each.ignorant)), faithful]
        published = "" if each.published is None else ", ".join(map(_cell, each.published))
        lines.append(_line([*cells, *map(_cell, robust), published]))
    return lines


def _models(records: Mapping[str, EvaluationRecord]) -> list[str]:
    lines = _head(["model", *(f"{suite} {name}" for suite, name in SHOWN)])
    for name, record in records.items():
        values = [_value(record, *shown) for shown in SHOWN]
        lines.append(_line([name, *map(_cell, values)]))
    return lines


def _balances(balances: Mapping[str, Sequence[Figure]]) -> list[str]:
    lines = _head(["method", *(name.removeprefix("part/") for name in BALANCE)])
    for name, figures in balances.items():
        known = {figure.name: figure for figure in figures}
        lines.append(_line([name, *(_interval(known.get(part)) for part in BALANCE)]))
    return lines


def _value(record: EvaluationRecord, suite: str, name: str) -> float:
    own = record.suites[suite].figures if suite in record.suites else []
    return next((figure.value for figure in own if figure.name == name), math.nan)


def _interval(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.low is None or figure.high is None:
        return _cell(figure.value)
    return f"{_cell(figure.value)} [{_cell(figure.low)}, {_cell(figure.high)}]"


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), _line(["---"] * len(names))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
