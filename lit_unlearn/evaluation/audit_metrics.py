"""Audit of metrics on pools of models: which figures tell what a model knows, reliably."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.metrics.functional.meta_evaluation import (
    faithfulness,
    quantisation_robustness,
    relearning_robustness,
)
from lit_unlearn.metrics.functional.statistics import bootstrap_auc, harmonic_mean, mean
from lit_unlearn.utils.ownership import check_targets, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text

__all__ = ["AUDIT_SCHEMA", "AuditedMetric", "Pools", "audit_metrics"]

AUDIT_SCHEMA = 1
"""Version of ``audit_metrics.json``; increased when the name or meaning of a key changes."""

_KEPT_GROUPS = {"neighbor", "general", "safe", "retain", "real_authors", "world_facts"}
"""Groups of rows that must not be forgotten; their figures are no evidence of forgetting."""
_INVERTED = ("uds", "lens_erasure", "answer_nll")
"""Scores that are higher for a model that knows less."""
_NO_EVIDENCE = {"repetition", "empty", "recall_unattacked"}
"""Scores of the forgotten rows that tell nothing of knowledge, or that repeat another figure."""

_PUBLISHED = {  # figure or score -> faithfulness; robustness to relearning and to quantisation
    "extraction_strength": (0.891, 0.7703, 0.9700),
    "exact_memorisation": (0.817, 0.6051, 0.9843),
    "probability": (0.816, 0.6417, 0.9238),
    "paraphrase_probability": (0.707, 0.8988, 0.8529),
    "truth_ratio": (0.947, 0.2343, 0.9960),
    "rouge_l_recall": (0.722, 0.2025, 0.9342),
    "unattacked/recall": (0.722, 0.2025, 0.9342),
    "reworded/recall": (0.832, 0.0637, 0.9507),
    "beginning/recall": (0.757, 0.1831, 0.9713),
    "lens_erasure": (0.927, 0.8116, 0.9587),
    "uds": (0.971, 0.8997, 0.9677),
}
"""150 unlearned Llama-3.2-1B models, TOFU forget10 (arXiv 2605.24614; values of its repository
gnueaj/unlearning-depth-score at fc31639, Apache-2.0). ROUGE is that of generated answers: plain,
to another wording, and behind a prefill ("jailbreak"). Their logit lens has a fixed decoder and is
relative to the retain model."""


@dataclass(frozen=True)
class Pools:
    """Folders of evaluations, each of one model, with the same suites and settings."""

    knowing: Sequence[str | Path]
    """Models that were trained on what is to be forgotten."""
    ignorant: Sequence[str | Path]
    """Models that were never trained on it."""
    unlearned: Sequence[str | Path] = ()
    relearned: Sequence[str | Path] = ()
    """The unlearned models after relearning, in the same order."""
    quantised: Sequence[str | Path] = ()
    """The unlearned models with weights of 4 bits, in the same order."""
    retain: str | Path | None = None
    """A model that never knew, for comparison with the relearned ones."""
    retain_relearned: str | Path | None = None
    """That model after the same training as the relearned ones."""


@dataclass(frozen=True)
class AuditedMetric:
    """Faithfulness and robustness of one figure; NaN where the pools do not tell."""

    suite: str
    figure: str
    knowing: float
    """Mean over the knowing models."""
    ignorant: float
    faithfulness: float
    """0 to 1: the probability that the figure shows more knowledge for a knowing model."""
    low: float
    """Lower end of the 95 % interval of `faithfulness`, over resampled models."""
    high: float
    relearning: float
    """0 to 1, see `relearning_robustness`."""
    quantisation: float
    """0 to 1, see `quantisation_robustness`."""
    robustness: float
    """Harmonic mean of these two."""
    overall: float
    """Harmonic mean of faithfulness and robustness."""
    published: tuple[float, float, float] | None
    """Published faithfulness, relearning and quantisation of this score, on other models."""


def audit_metrics(pools: Pools, output: str | Path | None = None) -> list[AuditedMetric]:
    """Say of every figure of forgetting whether it can be believed, on one's own pools of models.

    Args:
        pools: Folders that `evaluate` has written, with the same suites and settings.
        output: Folder for ``audit_metrics.json``; None writes nothing.

    Returns:
        The figures that all knowing and ignorant models have, the most faithful and robust first.

    Raises:
        InputError: A pool is empty or does not fit another one, a folder holds no evaluation, or no
            figure of forgetting is common to these.
    """
    _check(pools)
    lists = {n: [local_path(each) for each in given] for n, given in _folders(pools).items()}
    everything = [each for folders in lists.values() for each in folders]
    file = None if output is None else local_path(output) / "audit_metrics.json"
    if file is not None:
        check_targets(file.parent, [file], everything, "--output")
    read = {name: [_values(read_evaluation(each)) for each in f] for name, f in lists.items()}
    tables = [table for name in ("knowing", "ignorant") for table in read[name]]
    names = [name for name in tables[0] if all(name in table for table in tables)]
    if not names:
        raise InputError(
            "Parameter `pools` should hold evaluations with a common figure of forgetting. Found "
            "none; evaluate all models with the same suites, such as tofu, depth or prefill."
        )
    found = [_audited(name, read) for name in names]
    found.sort(key=_rank, reverse=True)
    if file is not None:
        content = {
            "schema_version": AUDIT_SCHEMA,
            "pools": lists,
            "metrics": [asdict(each) for each in found],
        }
        write_text(file, json_text(content, indent=2) + "\n")
    return found


def _check(pools: Pools) -> None:
    """Refuse pools that are empty or do not fit one another."""
    for name in ("knowing", "ignorant"):
        if not getattr(pools, name):
            raise InputError(f"Parameter `{name}` should hold at least one evaluation. Found none.")
    for name in ("relearned", "quantised"):
        count = len(getattr(pools, name))
        if count and count != len(pools.unlearned):
            raise InputError(
                f"Parameter `{name}` should hold an evaluation for each of `unlearned`, in the "
                f"same order. Found {count} for {len(pools.unlearned)}."
            )
    pair = [pools.retain, pools.retain_relearned]
    if pools.relearned and None in pair:
        raise InputError(
            "Parameters `retain` and `retain_relearned` should be given with `relearned`: a model "
            "that never knew, before and after the same training. Found none."
        )


def _folders(pools: Pools) -> dict[str, Sequence[str | Path]]:
    """Return all folders by the name of the pool; a single one is a pool of one."""
    given: dict[str, Sequence[str | Path]] = {}
    for name, value in vars(pools).items():
        given[name] = [value] if isinstance(value, str | Path) else value or ()
    return given


def _values(record: EvaluationRecord) -> dict[tuple[str, str], float]:
    """Return the figures of forgetting by suite and name, higher where the model knows more."""
    return {
        (name, figure.name): _knowledge(figure)
        for name, suite in record.suites.items()
        for figure in suite.figures
        if _is_evidence(figure)
    }


def _is_evidence(figure: Figure) -> bool:
    group, _, score = figure.name.rpartition("/")
    if group.partition("/")[0] in _KEPT_GROUPS or score in _NO_EVIDENCE:
        return False
    if not math.isfinite(figure.value):
        return False
    return figure.better == "lower" or score in _INVERTED


def _knowledge(figure: Figure) -> float:
    score = figure.name.rpartition("/")[2]
    if score == "answer_nll":
        return math.exp(-figure.value)
    return 1 - figure.value if score in _INVERTED else figure.value


def _audited(
    name: tuple[str, str], read: Mapping[str, Sequence[Mapping[tuple[str, str], float]]]
) -> AuditedMetric:
    values = {pool: [t.get(name, math.nan) for t in tables] for pool, tables in read.items()}
    interval = bootstrap_auc(values["ignorant"], values["knowing"])
    faithful = faithfulness(values["ignorant"], values["knowing"])
    relearning = quantisation = math.nan
    if values["relearned"]:
        (retain,), (after,) = values["retain"], values["retain_relearned"]
        relearning = relearning_robustness(values["unlearned"], values["relearned"], retain, after)
    if values["quantised"]:
        quantisation = quantisation_robustness(values["unlearned"], values["quantised"])
    robust = harmonic_mean([relearning, quantisation])
    return AuditedMetric(
        *name,
        mean(values["knowing"]),
        mean(values["ignorant"]),
        faithful,
        interval.low,
        interval.high,
        relearning,
        quantisation,
        robust,
        harmonic_mean([faithful, robust]),
        _PUBLISHED.get(name[1]) or _PUBLISHED.get(name[1].rpartition("/")[2]),
    )


def _rank(found: AuditedMetric) -> tuple[bool, float, float]:
    """Order by overall value; figures without one come last, by their faithfulness."""
    known = not math.isnan(found.overall)
    return known, found.overall if known else found.faithfulness, found.faithfulness
