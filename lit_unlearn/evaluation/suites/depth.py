"""Suite depth: the forgotten knowledge that a model's hidden states still hold, by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import (
    BlockMap,
    Effort,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Subject,
    SuiteResult,
    Variant,
)
from lit_unlearn.evaluation.suites.common import (
    StartedSuite,
    builtin_forget,
    check_same_rows,
    mean_figure,
    probe_of,
    row_of,
    subject_outcomes,
)
from lit_unlearn.evaluation.suites.depth_reading import (
    ANSWER,
    LENS,
    PATCHED,
    SAID,
    START_LENS,
    START_SAID,
    read_depth,
)
from lit_unlearn.evaluation.suites.recall import load_targets
from lit_unlearn.evaluation.suites.recovery import check_whole
from lit_unlearn.metrics.functional.depth import erased_share, linear_probe
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.types import Example

__all__ = ["GROUP", "Depth"]

GROUP = "forget"
_FALL, _LENS_FALL = "patched_fall", "lens_fall"
_START = "start_log_prob"
_SAME_START = 1e-3
"""Largest difference of a start model's log-probabilities in two evaluations, in nats."""
_TOKENS = 8
"""First tokens of the spans that the maps show."""
_PER_TOKEN = "probability per token, 0 to 1"
_ERASED = "share of what the retain model lacks, 0 to 1"


@dataclass
class Depth(StartedSuite):
    """Forgotten knowledge in the hidden states: logit lens, linear probe, Unlearning Depth Score.

    Every figure is about the *span* of a gold answer, the part that carries the knowledge: an
    entity from `spans`; else the first accepted answer in it that is not in the question; else the
    words that are not in the question. It is teacher-forced behind question and beginning.

    `probability` is that of the model itself. `lens` is the highest over it and all blocks read by
    the logit lens: wherever the answer is still readable. The lens uses norm and head of the start
    model (`--start`), else the model's own. `probe` is the share of wrong answers that a linear
    probe on the last token's state ranks below the right one, on questions that it was not trained
    on (0.5: chance). With a retain model (`--reference`) as well, `uds` is the Unlearning Depth
    Score (Lee et al. 2026, arXiv 2605.24614): the model's states are put into the start model, and
    the fall of the answer's likelihood is compared with that by the retain model's states; 0 is
    intact, 1 as erased as in the retain model. `lens_erasure` is the same for falls of the lens.

    Args:
        sources: Rows whose answers should be gone.
        spans: Rows with `question` and `entity`, a part of the answer (published for TOFU with the
            score, `forget10_filtered.json`); rows of `sources` without one are left out.
        blocks: Most decoder blocks that are read, at equal distances, the last one included.
        wrong_answers: Wrong answers of each row for the probe; a row without any of its own gets
            the answers of the next rows.
        threshold: Smallest fall, in nats, at which a block counts as one that holds the knowledge.
        batch_size: Candidates in one forward pass.
    """

    name: ClassVar[str] = "depth"
    takes_condition: ClassVar[bool] = False

    sources: list[Source] = field(default_factory=builtin_forget)
    spans: list[Source] = field(default_factory=list)
    blocks: int = 16
    wrong_answers: int = 2
    threshold: float = 0.05
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_number("blocks", self.blocks, 1)
        check_number("wrong_answers", self.wrong_answers, 1)
        check_number("batch_size", self.batch_size, 1)

    def probes(self, data_root: Path | None) -> list[Probe]:
        rows = load_targets(self.sources, data_root, self.name)
        if self.spans:
            rows = _with_entities(rows, self.spans, data_root)
        answers = [row.answer for row in rows]
        found = []
        for index, row in enumerate(rows):
            others = dict.fromkeys(row.distractors or answers[index + 1 :] + answers[:index])
            wrong = [text for text in others if text != row.answer][: self.wrong_answers]
            candidates = {ANSWER: row.answer} | {f"wrong/{i}": w for i, w in enumerate(wrong)}
            found.append(probe_of(row, GROUP, candidates=candidates))
        return found

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        check_whole(self.name, subject.model)
        return super().variants(subject, data_root)

    def effort(self, probes: Probes) -> Effort:
        """Return the work with a start model: its passes and patched ones, and the lens."""
        return Effort(rows=4.0 * len(probes))

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        return read_depth(subject, self._beside(subject), probes, self.blocks, self.batch_size)

    def answer_key(self) -> str:
        return f"{self.name} {self.blocks} {self._start_key()}"

    def check(self, probes: Probes, reference: Reference) -> None:
        if self._start is None:
            return
        self._start_key()
        theirs = (reference or {}).get(GROUP)
        if theirs:
            ids, odd = [row.row_id for row in theirs], [r for r in theirs if _START not in r.scores]
            own = [probe.probe_id for probe in probes]
            check_same_rows(own, ids, "rows of the suite depth", "the same `sources` and `spans`")
            _refuse_reference(odd, "was read beside a start model")

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        pairs = subject_outcomes(probes, outcomes)
        probed, by_block = _probed(pairs)
        theirs = {row.row_id: row.scores for row in (reference or {}).get(GROUP, ())}
        rows = []
        for probe, outcome in pairs:
            scores = _scores(outcome) | {"probe": probed.get(probe.probe_id, math.nan)}
            scores |= self._erased(probe.probe_id, scores, theirs)
            rows.append(row_of(probe, scores))
        why = "" if self._start else "needs the start model (`--start`)"
        why = why or ("" if theirs else "needs a retain model (`--reference`)")
        others = any(not probe.example.distractors for probe in probes)
        how = "wrong answers are those of other rows" if others else ""
        figures = [
            mean_figure(f"{GROUP}/probability", rows, _PER_TOKEN, "lower"),
            mean_figure(f"{GROUP}/lens", rows, _PER_TOKEN, "lower"),
            mean_figure(f"{GROUP}/probe", rows, "share of wrong answers", "lower", how),
            mean_figure(f"{GROUP}/lens_erasure", rows, _ERASED, "higher", why),
            mean_figure(f"{GROUP}/uds", rows, _ERASED, "higher", why),
        ]
        return SuiteResult(rows, figures, _maps([outcome for _, outcome in pairs], by_block))

    def _erased(
        self, row_id: str, scores: Mapping[str, float], theirs: Mapping[str, Mapping[str, float]]
    ) -> dict[str, float]:
        """Return both shares of a row; NaN without a start or a retain model."""
        reference = theirs.get(row_id)
        if reference is None or _START not in scores:
            return {"lens_erasure": math.nan, "uds": math.nan}
        apart = abs(reference.get(_START, math.inf) - scores[_START]) > _SAME_START
        _refuse_reference([row_id] * apart, "was read beside the same start model")
        found = {}
        for score, name in (("lens_erasure", _LENS_FALL), ("uds", _FALL)):
            own, other = _of(name, scores), _of(name, reference)
            _refuse_reference([row_id] * (own.keys() != other.keys()), "has the same `blocks`")
            falls = [other[block] for block in own]
            found[score] = erased_share(list(own.values()), falls, self.threshold)
        return found


def _with_entities(
    rows: Sequence[Example], spans: Sequence[Source], data_root: Path | None
) -> list[Example]:
    """Return the rows that have an entity, which takes the place of their accepted answers."""
    given = [row.values for source in spans for row in read_rows(source, data_root)]
    entities = {str(each.get("question")).strip(): str(each.get("entity")) for each in given}
    found = [(row, entities.get(row.question.strip(), "")) for row in rows]
    kept = [
        replace(r, accepted=(e,)) for r, e in found if e and e.casefold() in r.answer.casefold()
    ]
    if not kept:
        raise InputError(
            "Parameter `spans` of the suite depth should hold, in the columns `question` and "
            f"`entity`, parts of the answers of `sources`. Found none for {len(rows)} rows; give "
            "the spans of the same data, or leave them out."
        )
    return kept


def _scores(outcome: Outcome) -> dict[str, float]:
    """Return the scores of a row that need no other row."""
    said, lens = mean(outcome.forced[SAID].log_probs), _of(LENS, _means(outcome))
    scores = {
        "probability": math.exp(said),
        "lens": math.exp(max([said, *lens.values()])),
    }
    if START_SAID in outcome.forced:
        start = mean(outcome.forced[START_SAID].log_probs)
        start_lens, patched = (_of(name, _means(outcome)) for name in (START_LENS, PATCHED))
        scores[_START] = start
        scores |= {f"{_LENS_FALL}/{b}": start_lens[b] - value for b, value in lens.items()}
        scores |= {f"{_FALL}/{b}": start - value for b, value in patched.items()}
    return scores


def _means(outcome: Outcome) -> dict[str, float]:
    return {name: mean(forced.log_probs) for name, forced in outcome.forced.items()}


def _of(name: str, values: Mapping[str, float]) -> dict[int, float]:
    """Return the values ``name/<block>`` by block, in the order of the blocks."""
    found = {int(k.rpartition("/")[2]): v for k, v in values.items() if k.startswith(f"{name}/")}
    return dict(sorted(found.items()))


def _probed(pairs: Sequence[tuple[Probe, Outcome]]) -> tuple[dict[str, float], dict[int, float]]:
    """Return the probe's share by row, and its mean by block; both empty for too few rows."""
    ordered = sorted((o for p, o in pairs if len(p.candidates) > 1), key=lambda o: o.probe_id)
    if not ordered:
        return {}, {}
    names = dict.fromkeys(name.rpartition("/")[0] for o in ordered for name in o.states)
    blocks = sorted({int(name.rpartition("/")[2]) for name in ordered[0].states})
    states, right = [], []
    for outcome in ordered:
        own = [name for name in names if f"{name}/{blocks[0]}" in outcome.states]
        states.append(np.array([[outcome.states[f"{name}/{b}"] for b in blocks] for name in own]))
        right.append([name == ANSWER for name in own])
    found = linear_probe(states, right)
    if found is None:
        return {}, {}
    ids = [outcome.probe_id for outcome in ordered]
    means = dict(zip(blocks, found.by_block.mean(axis=0).tolist(), strict=True))
    return dict(zip(ids, found.chosen.tolist(), strict=True)), means


def _maps(outcomes: Sequence[Outcome], probed: Mapping[int, float]) -> dict[str, BlockMap]:
    """Return means over rows by block and by place of a token in the span."""
    blocks = list(_of(LENS, _means(outcomes[0]))) if outcomes else []
    lens = [_by_token([o.forced[f"{LENS}/{b}"].log_probs for o in outcomes]) for b in blocks]
    likely = [[mean([math.exp(v) for v in own]) for own in tokens] for tokens in lens]
    found = {"logit lens": BlockMap(_PER_TOKEN, blocks, likely)}
    if outcomes and all(START_SAID in outcome.forced for outcome in outcomes):
        falls = [_by_token([_falls(o, block) for o in outcomes]) for block in blocks]
        means = [[mean(own) for own in tokens] for tokens in falls]
        found["fall when put into the start model"] = BlockMap("nats per token", blocks, means)
    if probed:
        values = [[probed[block]] for block in blocks]
        found["linear probe"] = BlockMap("share of wrong answers", blocks, values)
    return found


def _falls(outcome: Outcome, block: int) -> list[float]:
    both = (outcome.forced[name].log_probs for name in (START_SAID, f"{PATCHED}/{block}"))
    return [start - patched for start, patched in zip(*both, strict=True)]


def _by_token(rows: Iterable[Sequence[float]]) -> list[list[float]]:
    """Return the values of first tokens, of second ones, and so on, as far as there are any."""
    found: list[list[float]] = [[] for _ in range(_TOKENS)]
    for row in rows:
        for place, value in enumerate(row[:_TOKENS]):
            found[place].append(value)
    return [values for values in found if values]


def _refuse_reference(odd: Sequence[object], should: str) -> None:
    if odd:
        raise InputError(
            f"Parameter `reference` of the suite depth should be an evaluation that {should}. "
            "Found another one; give the retain model itself, which is then read anew."
        )
