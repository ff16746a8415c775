"""Membership: whether the forget texts still look like training data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import (
    Figure,
    Forced,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import probe_of, row_of, subject_outcomes
from lit_unlearn.metrics.functional.membership import (
    loss,
    min_k,
    min_k_plus_plus,
    reference_difference,
    zlib_ratio,
)
from lit_unlearn.metrics.functional.statistics import auc, bootstrap_auc
from lit_unlearn.types import Example, Representation

__all__ = ["Membership"]

_MEMBER, _NONMEMBER, _TEXT = "member", "nonmember", "answer"


@dataclass
class Membership(Suite):
    """Separation of the forget texts from unseen texts, by five membership statistics.

    Each figure is an AUC: the probability that a member's statistic is below a non-member's. A
    model that saw neither gives 0.5. At 1 the forget texts still look like training data; at 0 they
    are conspicuously unlikely. As the two sets may also differ otherwise (Duan et al., arXiv
    2402.07841), compare with a retain model (`reference`) rather than with 0.5. The statistic
    `reference` (loss minus the retain model's loss) needs it. All statistics come from one pass per
    text, without the end-of-turn token.

    Args:
        members: Rows that the model before unlearning was trained on and must forget.
        nonmembers: Rows of the same kind on which no model was trained (holdout).
        representation: `unified` reads the answers of questions; `raw` reads passages as plain
            text, for data sets of texts.
        k: Share of the least likely tokens that Min-K and Min-K++ average, above 0 and at most 1.
    """

    name: ClassVar[str] = "membership"

    members: list[Source]
    nonmembers: list[Source]
    representation: Representation = "unified"
    k: float = 0.4

    def __post_init__(self) -> None:
        check_number("k", self.k, 0, 1, above=True)

    def forgets(self, group: str) -> bool:
        return group == _MEMBER

    def probes(self, data_root: Path | None) -> list[Probe]:
        groups = {
            group: load_examples(sources, data_root, self.representation)
            for group, sources in ((_MEMBER, self.members), (_NONMEMBER, self.nonmembers))
        }
        _check(groups)
        return [
            probe_of(example, group, candidates={_TEXT: example.answer})
            for group, examples in groups.items()
            for example in examples
        ]

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        self.check(probes, reference)
        losses = _losses(reference)
        rows = [
            self._row(probe, outcome.forced[_TEXT], losses.get(probe.probe_id, math.nan))
            for probe, outcome in subject_outcomes(probes, outcomes)
        ]
        names = dict.fromkeys(name for row in rows for name in row.scores)
        return SuiteResult(rows, [_figure(name, rows) for name in names])

    def check(self, probes: Probes, reference: Reference) -> None:
        losses = _losses(reference)
        absent = sum(probe.probe_id not in losses for probe in probes)
        if reference is not None and absent:
            raise InputError(
                f"Parameter `reference` should be evaluated on the same rows. Found no loss for "
                f"{absent} of {len(probes)} rows; evaluate the reference again."
            )

    def _row(self, probe: Probe, forced: Forced, reference_loss: float) -> Row:
        log_probs = forced.log_probs[:-1]
        means, deviations = forced.means[:-1], forced.deviations[:-1]
        text = probe.candidates[_TEXT]
        own = loss(log_probs)
        scores = {
            "loss": own,
            "zlib": zlib_ratio(log_probs, text),
            "min_k": min_k(log_probs, self.k),
            "min_k_plus_plus": min_k_plus_plus(log_probs, means, deviations, self.k),
            "reference": reference_difference(own, reference_loss),
        }
        return row_of(probe, scores)


def _losses(reference: Reference) -> dict[str, float]:
    return {row.row_id: row.scores["loss"] for rows in (reference or {}).values() for row in rows}


def _figure(name: str, rows: Sequence[Row]) -> Figure:
    """Return the AUC of a statistic: the probability that a member's is below a non-member's."""
    sides: dict[str, list[float]] = {_MEMBER: [], _NONMEMBER: []}
    for row in rows:
        if not math.isnan(row.scores[name]):
            sides[row.group].append(row.scores[name])
    members, others = sides[_MEMBER], sides[_NONMEMBER]
    title, unit = f"{name}_auc", "area under the curve, 0 to 1"
    if not members or not others:
        why = "needs a reference" if name == "reference" else "no text with a token on one side"
        return Figure(title, math.nan, unit, 0, note=why)
    ends = bootstrap_auc(members, others)
    count = len(members) + len(others)
    return Figure(title, auc(members, others), unit, count, ends.low, ends.high, note="0.5 is best")


def _check(groups: Mapping[str, Sequence[Example]]) -> None:
    """Check that each row has a text, and that no text is both a member and a non-member."""
    texts = {name: {(e.question, e.answer) for e in rows} for name, rows in groups.items()}
    empty = next((e for rows in groups.values() for e in rows if not e.answer.strip()), None)
    if empty is not None:
        raise InputError(
            "Parameters `members` and `nonmembers` should have rows with an answer. Found none in "
            f"row {empty.example_id!r}; give other sources."
        )
    both = texts[_MEMBER] & texts[_NONMEMBER]
    if both:
        raise InputError(
            "Parameters `members` and `nonmembers` should have no text in common. Found "
            f"{len(both)}, such as {min(both)!r:.80}; remove them from one of the two."
        )
