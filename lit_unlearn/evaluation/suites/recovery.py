"""What suites of attacks share: which rows an attack may use, and recall beside the un-attacked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn
from torch.distributed.tensor import DTensor

from lit_unlearn.data.mixing import epoch_order
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Generation,
    Outcome,
    Probe,
    Row,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import (
    SHARE,
    ask,
    mean_figure,
    recall,
    recall_note,
    subject_outcomes,
)
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.statistics import bootstrap_mean
from lit_unlearn.types import Example

UNATTACKED = "unattacked"
"""Group of the same rows without an attack."""

Found = Mapping[str, Sequence[tuple[Probe, Outcome]]]
"""Group -> each probe with what the model did; `UNATTACKED` is one of the groups."""

_SCORES: dict[str, tuple[str, Better]] = {
    "recall": (SHARE, "lower"),
    "refused": (SHARE, "neither"),
    "answer_nll": ("nats per token", "neither"),
}


def check_whole(suite: str, model: nn.Module) -> None:
    """Refuse a model whose weights are sharded: a process can neither copy it nor go back alone.

    Raises:
        InputError: It is.
    """
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise InputError(
            f"The suite {suite} changes or differentiates a model, which should be whole in each "
            "process. Found one that is sharded over processes (FSDP); evaluate the exported "
            "folder with `lit-unlearn evaluate`."
        )


def split_rows(
    rows: Sequence[Example], attack_share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """The rows that an attack may use, and the others, which are probed; in their own order.

    Args:
        rows: At least two.
        attack_share: Share of the rows that the attack gets, above 0 and below 1; at least one row
            is on either side.
        seed: Decides which.

    Raises:
        InputError: A share out of range, or fewer than two rows.
    """
    if not 0 < attack_share < 1 or len(rows) < 2:
        raise InputError(
            "Parameter `attack_share` should be above 0 and below 1, of at least 2 rows. Found "
            f"{attack_share} of {len(rows)}; 0.5 is usual."
        )
    count = min(max(1, round(attack_share * len(rows))), len(rows) - 1)
    used = set(epoch_order(len(rows), seed, "attack", 0)[:count])
    mine = [row for index, row in enumerate(rows) if index in used]
    return mine, [row for index, row in enumerate(rows) if index not in used]


def attack_probe(example: Example, group: str, max_new_tokens: int) -> Probe:
    """A question whose reply is read and whose gold answer is teacher-forced."""
    probe = ask(example, group, Generation(max_new_tokens))
    return replace(probe, candidates={"answer": example.answer})


def by_variant(probes: Sequence[Probe], outcomes: Mapping[str, Sequence[Outcome]]) -> Found:
    """One group per variant; the subject itself is `UNATTACKED`.

    Raises:
        InputError: Outcomes that are not those of the probes.
    """
    return {
        name or UNATTACKED: subject_outcomes(probes, {"": found})
        for name, found in outcomes.items()
    }


def attack_result(found: Found, notes: Mapping[str, str]) -> SuiteResult:
    """Recall, refusals and likelihood in each group, and the gain over the un-attacked rows.

    Args:
        found: Every group asks the same rows.
        notes: Group -> what its figures must not be read without.
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
    if group != UNATTACKED:
        scores["recall_gain"] = scores["recall"] - before[probe.example.example_id]
    return Row(
        row_id=f"{group}/{probe.example.example_id}",
        group=group,
        scores=scores,
        question=probe.turns[-1].content,
        gold=probe.example.answer,
        reply=outcome.replies[0],
    )


def _scores(probe: Probe, outcome: Outcome) -> dict[str, float]:
    scores = {
        "recall": recall(probe.example, outcome.replies[0]),
        "refused": float(is_refusal(outcome.replies[0])),
    }
    if "answer" in outcome.forced:
        log_probs = outcome.forced["answer"].log_probs
        scores["answer_nll"] = -math.fsum(log_probs) / len(log_probs)
    return scores


def _figures(group: str, rows: Sequence[Row], note: str) -> list[Figure]:
    figures = []
    for score, (unit, better) in _SCORES.items():
        values = [row.scores[score] for row in rows if score in row.scores]
        if len(values) == len(rows):
            keys = [row.row_id for row in rows]
            name = f"{group}/{score}"
            figures.append(mean_figure(name, values, keys, unit=unit, better=better, note=note))
    gains = [row.scores["recall_gain"] for row in rows if "recall_gain" in row.scores]
    return [*figures, _gain(group, gains, note)] if gains else figures


def _gain(group: str, gains: Sequence[float], note: str) -> Figure:
    """Mean difference from the same rows un-attacked, with its interval over rows."""
    low, high = bootstrap_mean(gains)
    return Figure(
        f"{group}/recall_gain",
        math.fsum(gains) / len(gains),
        "difference of shares, -1 to 1",
        len(gains),
        low,
        high,
        "lower",
        note,
    )
