"""Functions shared by suites of attacks that change the model or optimise an input.

An attack may use some of the rows; the others are asked with and without it, and the recall of both
is reported.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from lit_unlearn.data.mixing import epoch_order
from lit_unlearn.distributed.ranks import is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Row,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import SHARE, mean_figure, subject_outcomes
from lit_unlearn.evaluation.suites.recall import recall, recall_note
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.statistics import bootstrap_mean, mean
from lit_unlearn.types import Example

__all__ = ["UNATTACKED", "Attacked", "attack_result", "by_variant", "check_whole", "split_rows"]

UNATTACKED = "unattacked"
"""Group of the rows without an attack."""

Attacked = Mapping[str, Sequence[tuple[Probe, Outcome]]]
"""Group -> each probe with its outcome; `UNATTACKED` is one of the groups."""

_READINGS: dict[str, tuple[str, Better]] = {
    "recall": (SHARE, "lower"),
    "refused": (SHARE, "neither"),
    "answer_nll": ("nats per token", "neither"),
}
"""Score -> unit and better direction."""


def check_whole(suite: str, model: nn.Module) -> None:
    """Refuse a sharded model, which one process can neither copy nor differentiate."""
    if is_sharded(model):
        raise InputError(
            f"The suite {suite} needs the whole model in each process. Found a sharded model "
            "(FSDP); evaluate the exported folder with `lit-unlearn evaluate`."
        )


def split_rows(
    rows: Sequence[Example], attack_share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split rows into those that an attack may use and those that are probed, keeping the order.

    Both parts have at least one row.

    Raises:
        InputError: `attack_share` is out of range, or there are fewer than two rows.
    """
    if not 0 < attack_share < 1 or len(rows) < 2:
        raise InputError(
            "Parameter `attack_share` should be above 0 and below 1, of at least 2 rows. Found "
            f"{attack_share} of {len(rows)}; set 0.5, or give more rows."
        )
    count = min(max(1, round(attack_share * len(rows))), len(rows) - 1)
    used = set(epoch_order(len(rows), seed, "attack", 0)[:count])
    mine = [row for index, row in enumerate(rows) if index in used]
    return mine, [row for index, row in enumerate(rows) if index not in used]


def by_variant(probes: Probes, outcomes: Outcomes) -> Attacked:
    """Return one group per variant; the group of the subject is `UNATTACKED`."""
    return {
        name or UNATTACKED: subject_outcomes(probes, {"": found})
        for name, found in outcomes.items()
    }


def attack_result(found: Attacked, notes: Mapping[str, str]) -> SuiteResult:
    """Return recall, refusals and likelihood of each group, and its gain in recall by the attack.

    Every group asks the same rows. `notes` maps a group to a note for its figures.
    """
    before = {p.example.example_id: _scores(p, o)["recall"] for p, o in found[UNATTACKED]}
    rows: list[Row] = []
    figures: list[Figure] = []
    for group, pairs in found.items():
        members = [_row(group, probe, outcome, before) for probe, outcome in pairs]
        decided = recall_note([probe.example for probe, _ in pairs])
        note = "; ".join(text for text in (decided, notes.get(group, "")) if text)
        rows += members
        figures += _figures(group, members, note)
    return SuiteResult(rows, figures)


def _row(group: str, probe: Probe, outcome: Outcome, before: Mapping[str, float]) -> Row:
    scores = _scores(probe, outcome)
    example = probe.example
    if group != UNATTACKED:
        scores["recall_gain"] = scores["recall"] - before[example.example_id]
    asked, reply = probe.turns[-1].content, outcome.replies[0]
    return Row(f"{group}/{example.example_id}", group, scores, asked, example.answer, reply)


def _scores(probe: Probe, outcome: Outcome) -> dict[str, float]:
    scores = {
        "recall": recall(probe.example, outcome.replies[0]),
        "refused": float(is_refusal(outcome.replies[0])),
    }
    if "answer" in outcome.forced:
        scores["answer_nll"] = -mean(outcome.forced["answer"].log_probs)
    return scores


def _figures(group: str, rows: Sequence[Row], note: str) -> list[Figure]:
    figures = [
        mean_figure(f"{group}/{score}", rows, *reading, note)
        for score, reading in _READINGS.items()
        if all(score in row.scores for row in rows)
    ]
    gains = [row.scores["recall_gain"] for row in rows if "recall_gain" in row.scores]
    if gains:
        unit, (low, high) = "difference of shares, -1 to 1", bootstrap_mean(gains)
        name, count = f"{group}/recall_gain", len(gains)
        figures.append(Figure(name, mean(gains), unit, count, low, high, "lower", note))
    return figures
