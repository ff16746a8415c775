"""Our rows of the suite tofu as a log in the layout of open-unlearning."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.published_logs import MEMORY, PREFIXES, ratio_name
from lit_unlearn.evaluation.records import SuiteRecord
from lit_unlearn.evaluation.suites.tofu import RATIO, Tofu

__all__ = ["exported_log", "is_exported"]

_OPTIONS = ("real_authors", "world_facts")
_Fields = Callable[[Row], dict[str, Any]]


def is_exported(record: SuiteRecord) -> bool:
    """Return whether a suite's rows can be written as such a log."""
    return record.settings.get("class") == Tofu.__name__


def exported_log(record: SuiteRecord) -> dict[str, Any]:
    """Return the rows of the suite tofu in the layout of open-unlearning's ``TOFU_EVAL.json``.

    It can be the `retain_logs_path` of open-unlearning. Losses of single wrong answers are not
    among our rows, so their figures are left out.
    """
    found: dict[str, Any] = {}
    means = {figure.name: figure.value for figure in record.figures}
    for group, prefix in PREFIXES.items():
        rows = [row for row in record.rows if row.group == group]
        for name, (score, fields) in _figures(group, prefix).items() if rows else ():
            values = {_number(row, place): fields(row) for place, row in enumerate(rows)}
            found[name] = {"agg_value": means.get(f"{group}/{score}"), "value_by_index": values}
    shared = ("model_utility", "forget_quality")
    return found | {name: {"agg_value": means[name]} for name in shared if name in means}


def _figures(group: str, prefix: str) -> Mapping[str, tuple[str, _Fields]]:
    """Return open-unlearning's figures: our score, and the fields of a row."""
    likely = "Q_A_Prob_normalised" if group in _OPTIONS else "Q_A_Prob"
    figures: dict[str, tuple[str, _Fields]] = {
        f"{prefix}_{likely}": ("probability", _likely),
        f"{prefix}_Q_A_ROUGE": ("rouge_l_recall", _said),
        ratio_name(prefix): ("truth_ratio", partial(_score, RATIO)),
    }
    memory = MEMORY if group == "forget" else {}
    return figures | {theirs: (ours, partial(_score, ours)) for ours, theirs in memory.items()}


def _number(row: Row, place: int) -> str:
    number = row.row_id.rpartition("/")[2]
    return number if number.isdecimal() else str(place)


def _likely(row: Row) -> dict[str, Any]:
    value = row.scores["probability"]
    if row.group in _OPTIONS:
        return {"prob": value}
    return {"prob": value, "avg_loss": -math.log(value) if value > 0 else math.inf}


def _said(row: Row) -> dict[str, Any]:
    texts = {"input": row.question, "ground_truth": row.gold, "generation": row.reply}
    return {"rougeL_recall": row.scores["rouge_l_recall"], **texts}


def _score(name: str, row: Row) -> dict[str, Any]:
    return {"score": row.scores[name]}
