"""Privacy leakage (MUSE): separation of texts of the forget corpus from unseen texts."""

import math
from collections.abc import Sequence
from pathlib import Path

from lit_unlearn.data.fields import text_of
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure, Outcome, Probe, Reference, Row
from lit_unlearn.evaluation.suites.common import check_same_rows
from lit_unlearn.metrics.functional.membership import min_k, priv_leak
from lit_unlearn.metrics.functional.statistics import auc, bootstrap_auc
from lit_unlearn.types import Example, Turn

__all__ = ["GROUPS", "check", "figures", "probes", "row"]

GROUPS = ("members", "holdout")
_TEXT, _SCORE = "text", "min_k"
_UNIT = "chance that a member looks more familiar than a holdout text, 0 to 1"
_PERCENT = "percent of the retain model's value"
_LEAK = "privacy_leakage"


def probes(members: Source, holdout: Source, data_root: Path | None) -> list[Probe]:
    """Return a probe per text, teacher-forced without a prompt; refuse rows without a text."""
    found: list[Probe] = []
    for group, source in zip(GROUPS, (members, holdout), strict=True):
        for row in read_rows(source, data_root):
            names = ", ".join(row.values)
            if _TEXT not in row.values:
                raise InputError(
                    f"Parameter `{group}` should have rows with the column `text`. Found {names} "
                    f"at {row.location}; set `columns: {{text: <its name here>}}`."
                )
            probe_id, turns = f"{group}/{row.row_id}", (Turn("user", ""),)
            example = Example(probe_id, turns, text_of(row, _TEXT), "passage", plain=True)
            texts = {_TEXT: example.answer}
            found.append(Probe(probe_id, group, example, turns, True, candidates=texts))
    return found


def row(probe: Probe, outcome: Outcome, share: float) -> Row:
    """Score one text by Min-K %, without the end-of-turn token."""
    scores = {_SCORE: min_k(outcome.forced[_TEXT].log_probs[:-1], share)}
    return Row(probe.probe_id, probe.group, scores, "", probe.example.answer)


def figures(rows: Sequence[Row], reference: Reference, retain_auc: float | None) -> list[Figure]:
    """Return the AUC of Min-K %, and MUSE's privacy leakage; refuse a reference with other texts.

    `retain_auc` is the retain model's AUC of Min-K %, used if `reference` has no rows.
    """
    sides = [[row for row in rows if row.group == group] for group in GROUPS]
    if not all(sides):
        return [_missing("not measured: `members` and `holdout` name no texts")]
    own = [_scores(side) for side in sides]
    value, (low, high), count = auc(*own), bootstrap_auc(*own), sum(map(len, own))
    name, note = f"members/auc_{_SCORE}", "0.5: not told apart"
    found = [Figure(name, value, _UNIT, count, low, high, note=note)]
    theirs = [list((reference or {}).get(group, ())) for group in GROUPS]
    if any(theirs):
        _check_same([[row.row_id for row in side] for side in sides], theirs)
        retain_auc = auc(*map(_scores, theirs))
    if retain_auc is None:
        needed = "needs the rows of a retain model (`--reference`) or `retain_auc`"
        return [*found, _missing(needed)]
    value, low, high = (priv_leak(x, retain_auc) for x in (value, high, low))
    note = f"0 is best; against an AUC of {retain_auc:.4f}"
    return [*found, Figure(_LEAK, value, _PERCENT, count, low, high, note=note)]


def _missing(note: str) -> Figure:
    return Figure(_LEAK, math.nan, _PERCENT, 0, note=note)


def _scores(rows: Sequence[Row]) -> list[float]:
    return [row.scores[_SCORE] for row in rows]


def check(probes: Sequence[Probe], reference: Reference) -> None:
    """Refuse a reference that holds other texts."""
    own = [[probe.probe_id for probe in probes if probe.group == group] for group in GROUPS]
    theirs = [list((reference or {}).get(group, ())) for group in GROUPS]
    if all(own) and any(theirs):
        _check_same(own, theirs)


def _check_same(own: Sequence[Sequence[str]], theirs: Sequence[Sequence[Row]]) -> None:
    for group, ours, others in zip(GROUPS, own, theirs, strict=True):
        ids = [row.row_id for row in others]
        check_same_rows(ours, ids, f"texts in {group!r}", "the same `members` and `holdout`")
