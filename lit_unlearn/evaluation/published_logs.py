"""Row logs of other programs as the reference of an evaluation.

Two layouts are read, as .json or .json.gz: ``TOFU_EVAL.json`` of open-unlearning (each figure with
``agg_value`` and ``value_by_index``), and ``eval_log_aggregated.json`` of the TOFU authors (one
table for each group of rows). Figures are computed again from the rows.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Probe, Row, Suite
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord, settings_of
from lit_unlearn.evaluation.suites.muse import Muse
from lit_unlearn.evaluation.suites.tofu import RATIO, Tofu, probability
from lit_unlearn.metrics.functional.likelihood import truth_ratio
from lit_unlearn.metrics.functional.scores import rouge_l_recall
from lit_unlearn.metrics.functional.statistics import auc
from lit_unlearn.utils.digests import file_digest
from lit_unlearn.utils.paths import local_path

__all__ = ["MEMORY", "PREFIXES", "Log"]
__all__ += ["informed", "is_log", "log_record", "log_rows", "ratio_name", "read_log"]

PREFIXES = {"forget": "forget", "retain": "retain", "real_authors": "ra", "world_facts": "wf"}
"""Our group -> open-unlearning's prefix of its figures."""
_TOFU_FILES = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}
_TOFU_COLUMNS = {
    "Q_A_Prob": "avg_gt_loss",
    "Q_A_PARA_Prob": "avg_paraphrased_loss",
    "Q_A_PERT_Prob": "average_perturb_loss",
}
MEMORY = {
    "extraction_strength": "extraction_strength",
    "exact_memorisation": "exact_memorization",
}
"""Our score of forget rows -> open-unlearning's figure."""
_MIA = "mia_min_k"

_Values = Mapping[str, Mapping[str, Any]]
"""Row number -> fields."""


@dataclass(frozen=True)
class Log:
    """A log in the layout of open-unlearning."""

    path: Path
    program: str
    figures: Mapping[str, Any]

    def values(self, name: str) -> _Values:
        """Return the rows of a figure; empty if the log lacks it."""
        entry = self.figures.get(name)
        found = entry.get("value_by_index") if isinstance(entry, dict) else None
        return found if isinstance(found, dict) else {}


def is_log(given: object) -> bool:
    """Return whether a value is the path of a .json file, which no model and no folder is."""
    if not isinstance(given, str | Path):
        return False
    return str(given).endswith((".json", ".json.gz")) and local_path(given).is_file()


def read_log(path: Path) -> Log:
    """Read a log of either layout.

    Raises:
        InputError: The file cannot be read, or is no such log.
    """
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        content = json.loads(text)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a readable JSON file, found: {error}.") from None
    if isinstance(content, dict) and any(name in content for name in _TOFU_FILES.values()):
        with _unchanged(path, "TOFU"):
            return Log(path, "TOFU", dict(_as_open_unlearning(content)))
    named = content.values() if isinstance(content, dict) else ()
    if any(isinstance(entry, dict) and "agg_value" in entry for entry in named):
        return Log(path, "open-unlearning", content)
    raise InputError(
        f"{path}: expected a log of open-unlearning (TOFU_EVAL.json) or of the TOFU authors "
        "(eval_log_aggregated.json), found other keys; give such a file, a model, or the folder "
        "of an evaluation"
    )


def _as_open_unlearning(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for group, name in _TOFU_FILES.items():
        table, prefix = content.get(name) or {}, PREFIXES[group]
        for figure, column in _TOFU_COLUMNS.items():
            losses = table.get(column) or {}
            values = {index: {"avg_loss": loss} for index, loss in losses.items()}
            yield f"{prefix}_{figure}", {"value_by_index": values}
        texts = table.get("generated_text") or {}
        said = {
            index: {"input": asked, "generation": reply, "ground_truth": gold}
            for index, (asked, reply, gold) in texts.items()
        }
        yield f"{prefix}_Q_A_ROUGE", {"value_by_index": said}


def log_rows(log: Log, suite: Tofu) -> list[Row]:
    """Return the rows of a log with the scores of the suite tofu, named ``<group>/<number>``.

    Scores that do not follow from the log's columns are left out.

    Raises:
        InputError: A column does not hold what the layout says.
    """
    with _unchanged(log.path, log.program):
        return [
            _row(log, suite, group, prefix, index)
            for group, prefix in PREFIXES.items()
            for index in _indices(log, prefix)
        ]


@contextmanager
def _unchanged(path: Path, program: str) -> Iterator[None]:
    """Turn errors about the columns of a log into an `InputError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the columns of a log of {program}, found others "
            f"({type(error).__name__}: {error}); give an unchanged log"
        ) from None


def _indices(log: Log, prefix: str) -> list[str]:
    names = (f"{prefix}_Q_A_ROUGE", f"{prefix}_Q_A_Prob", ratio_name(prefix))
    return sorted({index for name in names for index in log.values(name)}, key=int)


def ratio_name(prefix: str) -> str:
    """Return open-unlearning's name of the truth ratio of a group, given by its prefix."""
    return "forget_truth_ratio" if prefix == "forget" else f"{prefix}_Truth_Ratio"


def _row(log: Log, suite: Tofu, group: str, prefix: str, index: str) -> Row:
    def field(figure: str, name: str) -> Any:
        return log.values(figure).get(index, {}).get(name)

    right = field(f"{prefix}_Q_A_Prob", "avg_loss")
    other = field(f"{prefix}_Q_A_PARA_Prob", "avg_loss")
    wrong = [-loss for loss in field(f"{prefix}_Q_A_PERT_Prob", "avg_loss") or ()]
    scores: dict[str, float | None] = {
        "probability": field(f"{prefix}_Q_A_Prob_normalised", "prob")
    }
    ratio = field(ratio_name(prefix), "score")
    if right is not None and (wrong or group in ("forget", "retain")):
        scores["probability"] = probability(group, -right, wrong)
    if right is not None and wrong:
        ratio = truth_ratio(-(right if other is None else other), wrong)
    said = f"{prefix}_Q_A_ROUGE"
    gold, reply = field(said, "ground_truth"), field(said, "generation")
    texts = gold is not None and reply is not None
    recalled = rouge_l_recall(gold, reply) if texts else field(said, "rougeL_recall")
    scores["rouge_l_recall"] = recalled
    if ratio is not None:
        scores |= {"truth_ratio": suite.aggregated(group, ratio), RATIO: ratio}
    if group == "forget":
        scores |= {ours: field(theirs, "score") for ours, theirs in MEMORY.items()}
    known = {name: float(value) for name, value in scores.items() if value is not None}
    asked = field(said, "input") or ""
    return Row(f"{group}/{index}", group, known, asked, gold or "", reply or "")


def log_record(path: Path, suites: Mapping[str, Suite], data_root: Path | None) -> EvaluationRecord:
    """Return a log as the record of a retain model, for the suites that it has rows of.

    Raises:
        InputError: It is no log, or its rows are not those of the suite's data.
    """
    log, found = read_log(path), {}
    for name, suite in suites.items():
        if isinstance(suite, Tofu):
            rows = _matched(log, log_rows(log, suite), suite.probes(data_root))
            figures = replace(suite, forget_quality=False).figures(rows)
            shown = [figure for figure in figures if figure.count]
            found[name] = SuiteRecord(name, settings_of(suite), 0.0, 0.0, rows, shown)
    if not any(isinstance(suite, Tofu | Muse) for suite in suites.values()):
        raise InputError(
            f"{path}: expected the suite tofu or muse, as a log has rows of these alone, found "
            f"{', '.join(suites)}; add one of them, or give a model as reference"
        )
    settings = {"log": log.program}
    return EvaluationRecord(str(path), file_digest(path), found, settings)


def _matched(log: Log, rows: Sequence[Row], probes: Sequence[Probe]) -> list[Row]:
    """Return the rows of the probes, by number and gold answer; refuse those of other data."""
    known: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        known.setdefault((row.group, row.gold.strip()), []).append(row)
    found = []
    for probe in probes:
        number = probe.probe_id.rpartition("/")[2]
        own = known.get((probe.group, probe.example.answer.strip()), [])
        own = own or [row for row in known.get((probe.group, ""), []) if _is(row, number)]
        same = [row for row in own if _is(row, number)] or (own if len(own) == 1 else [])
        found += [replace(row, row_id=probe.probe_id) for row in same]
    groups = {probe.group for probe in probes} & {row.group for row in rows}
    for group in groups - {row.group for row in found}:
        raise InputError(
            f"{log.path}: expected rows of the suite's {group} group, found none with its gold "
            "answers; set `forget_split` and `retain_split` to those of the log"
        )
    return found


def _is(row: Row, number: str) -> bool:
    return row.row_id.rpartition("/")[2] == number


def informed(suites: Mapping[str, Suite], path: Path) -> dict[str, Suite]:
    """Return the suites; muse gets the AUC of Min-K % of the log's model, if the log has it."""
    log, found = read_log(path), dict(suites)
    with _unchanged(path, log.program):
        sides = [log.figures.get(_MIA, {}).get(side, {}) for side in ("forget", "holdout")]
        rows = [side.get("value_by_index", {}).values() for side in sides]
        scores = [[float(row["score"]) for row in side] for side in rows]
    for name, suite in suites.items():
        if isinstance(suite, Muse) and suite.retain_auc is None and all(scores):
            found[name] = replace(suite, retain_auc=auc(*scores))
    return found
