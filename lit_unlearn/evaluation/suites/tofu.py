"""TOFU: four groups of questions, model utility, and forget quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import (
    Better,
    Figure,
    Generation,
    Outcome,
    Outcomes,
    Probe,
    Probes,
    Reference,
    Row,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.suites.common import (
    check_same_rows,
    mean_figure,
    probe_of,
    row_of,
    subject_outcomes,
)
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.metrics.functional.likelihood import (
    answer_probability,
    closeness_to_one,
    exact_memorisation,
    extraction_strength,
    model_utility,
    probability_with_options,
    truth_margin,
    truth_ratio,
    truth_share,
)
from lit_unlearn.metrics.functional.scores import repetition, rouge_l_recall
from lit_unlearn.metrics.functional.statistics import bootstrap_harmonic_mean, mean, two_sample_ks
from lit_unlearn.types import Example
from lit_unlearn.utils.grouping import grouped

__all__ = ["RATIO", "UTILITY_GROUPS", "UTILITY_SCORES", "Tofu", "probability"]

UTILITY_GROUPS = ("retain", "real_authors", "world_facts")
UTILITY_SCORES = ("probability", "rouge_l_recall", "truth_ratio")
_OPTION_GROUPS = ("real_authors", "world_facts")
RATIO = "wrong_over_right"
"""Score of the truth ratio before aggregation."""
PARAPHRASED = "paraphrase_probability"
_FORGET = "forget"
_WITHOUT = "--suites.tofu.forget_quality false"


@dataclass
class Tofu(Suite):
    """TOFU (Maini et al., arXiv 2401.06121): forgetting of a split, utility of everything else.

    Four groups: `forget`, `retain`, `real_authors`, `world_facts`. Figures of each group:
    `probability` of the right answer (per token; in the last two groups its share among the
    options), `rouge_l_recall` of a greedy reply, `truth_ratio`, `extraction_strength`,
    `exact_memorisation`, `repetition` (share of repeated 4-grams of a reply) and `empty` (share of
    empty replies); in `forget` also `paraphrase_probability`, the probability of the answer in
    other words, which the model was not trained on. Figures of the whole suite: `model_utility`,
    the harmonic mean of the first three scores over the last three groups, and `forget_quality`,
    which compares the truth ratios of the forget rows with those of a model that never saw them.

    Args:
        forget_split: Rows that should be forgotten; the retain model for `forget_quality` must be
            trained without the same rows.
        retain_split: Configuration of the retain rows; it must have perturbed answers.
        path: Hub id of the data set, or a local folder of the same layout.
        forget_quality: Compute `forget_quality`, which needs the rows of a retain model.
        truth_ratio: `tofu` for the published aggregates min(x, 1/x) and max(0, 1 - x) of
            x = p_wrong / p_right; `prob_mean` for open-unlearning's p_right / (p_right + p_wrong)
            in all groups. It affects `model_utility`, but not `forget_quality`.
        end_of_turn: Count the end-of-turn token in `extraction_strength` and `exact_memorisation`;
            `false` drops the last token, as open-unlearning does.
        max_new_tokens: Maximum number of tokens of a reply.
        forget: Rows of the forget group to ask.
        retain: Rows of the retain group to ask.
        real_authors: Rows of the group of real authors to ask.
        world_facts: Rows of the group of world facts to ask.
    """

    name: ClassVar[str] = "tofu"

    forget_split: Literal["forget01", "forget05", "forget10"] = "forget10"
    retain_split: str = "retain_perturbed"
    path: str = "locuslab/TOFU"
    forget_quality: bool = True
    truth_ratio: Literal["tofu", "prob_mean"] = "tofu"
    end_of_turn: bool = False
    max_new_tokens: int = 200
    forget: Selection = field(default_factory=Selection)
    retain: Selection = field(default_factory=Selection)
    real_authors: Selection = field(default_factory=Selection)
    world_facts: Selection = field(default_factory=Selection)

    def forgets(self, group: str) -> bool:
        return group == "forget"

    def probes(self, data_root: Path | None) -> list[Probe]:
        groups = {
            "forget": (f"{self.forget_split}_perturbed", self.forget),
            "retain": (self.retain_split, self.retain),
            "real_authors": ("real_authors_perturbed", self.real_authors),
            "world_facts": ("world_facts_perturbed", self.world_facts),
        }
        found: list[Probe] = []
        for group, (config, selection) in groups.items():
            source = Source(self.path, config, domain="question_answer")
            examples = selection.of(load_examples([source], data_root), group)
            found += [self._probe(group, example) for example in examples]
        return found

    def _probe(self, group: str, example: Example) -> Probe:
        if not example.distractors:
            raise InputError(
                f"Row {example.example_id!r} of group {group!r} should have perturbed answers. "
                "Found none; use a perturbed configuration, such as `retain_split: "
                "retain_perturbed`."
            )
        candidates = {"answer": example.answer}
        if example.paraphrases:
            candidates["paraphrase"] = example.paraphrases[0]
        candidates |= {f"wrong/{i}": text for i, text in enumerate(example.distractors)}
        return probe_of(example, group, Generation(self.max_new_tokens), candidates)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        """Score the outcomes; only `forget_quality` reads the reference."""
        rows = [self._row(*pair) for pair in subject_outcomes(probes, outcomes)]
        return SuiteResult(rows, self.figures(rows, reference))

    def figures(self, rows: Sequence[Row], reference: Reference = None) -> list[Figure]:
        """Return the figures of rows, which may come from a log of another program."""
        groups = grouped(rows, lambda row: row.group)
        found = [each for group, own in groups.items() for each in self._figures(group, own)]
        utility = [row for group in UTILITY_GROUPS for row in groups.get(group, ())]
        known = all(score in row.scores for row in utility for score in UTILITY_SCORES)
        if known and all(groups.get(group) for group in UTILITY_GROUPS):
            found.append(_model_utility(groups))
        if self.forget_quality:
            found += _forget_quality(groups.get("forget", []), reference)
        return found

    def check(self, probes: Probes, reference: Reference) -> None:
        if self.forget_quality:
            _checked_reference([p.probe_id for p in probes if p.group == "forget"], reference)

    def without_reference(self) -> Tofu:
        return replace(self, forget_quality=False)

    def _row(self, probe: Probe, outcome: Outcome) -> Row:
        means = {name: mean(forced.log_probs) for name, forced in outcome.forced.items()}
        answer, reply = outcome.forced["answer"], outcome.replies[0]
        wrong = [value for name, value in means.items() if name.startswith("wrong/")]
        ratio = truth_ratio(means.get("paraphrase", means["answer"]), wrong)
        scores = {
            "probability": probability(probe.group, means["answer"], wrong),
            "rouge_l_recall": rouge_l_recall(probe.example.answer, reply),
            "truth_ratio": self.aggregated(probe.group, ratio),
            RATIO: ratio,
            "extraction_strength": extraction_strength(answer.hits, end_of_turn=self.end_of_turn),
            "exact_memorisation": exact_memorisation(answer.hits, end_of_turn=self.end_of_turn),
            "repetition": repetition(reply),
            "empty": float(not reply.strip()),
        }
        if probe.group == _FORGET and "paraphrase" in means:
            scores[PARAPHRASED] = answer_probability([means["paraphrase"]])
        return row_of(probe, scores, reply)

    def aggregated(self, group: str, ratio: float) -> float:
        """Return the truth ratio of one row of a group as the setting `truth_ratio` says."""
        published = closeness_to_one if group == "forget" else truth_margin
        return published(ratio) if self.truth_ratio == "tofu" else truth_share(ratio)

    def _figures(self, group: str, rows: Sequence[Row]) -> list[Figure]:
        ratios = "p_right / (p_right + p_wrong)"
        if self.truth_ratio == "tofu":
            ratios = "min(x, 1/x)" if group == "forget" else "max(0, 1 - x)"
        units = {
            "probability": "probability per token, 0 to 1",
            "rouge_l_recall": "share of the answer's words, 0 to 1",
            "truth_ratio": f"mean of {ratios}, 0 to 1",
            "extraction_strength": "share of the answer's tokens, 0 to 1",
            "exact_memorisation": "share of the answer's tokens, 0 to 1",
            "repetition": "share of the reply's 4-grams, 0 to 1",
            "empty": "share of replies, 0 to 1",
        }
        if group in _OPTION_GROUPS:
            units["probability"] = "share of the options' probability, 0 to 1"
        better: dict[str, Better] = dict.fromkeys(units, "lower" if group == "forget" else "higher")
        better |= {"repetition": "lower", "empty": "lower"}
        if self.truth_ratio == "tofu":
            better["truth_ratio"] = "higher"
        if any(PARAPHRASED in row.scores for row in rows):
            units[PARAPHRASED], better[PARAPHRASED] = units["probability"], "lower"
        return [mean_figure(f"{group}/{s}", rows, unit, better[s]) for s, unit in units.items()]


def probability(group: str, answer: float, wrong: Sequence[float]) -> float:
    """Return the probability of a right answer; in the option groups, its share among the options.

    `answer` and `wrong` are mean log-probabilities per token, in nats.
    """
    if group in _OPTION_GROUPS:
        return probability_with_options(answer, wrong)
    return answer_probability([answer])


def _model_utility(groups: Mapping[str, Sequence[Row]]) -> Figure:
    scores = [
        [[row.scores[score] for score in UTILITY_SCORES] for row in groups[group]]
        for group in UTILITY_GROUPS
    ]
    parts = [mean(column) for rows in scores for column in zip(*rows, strict=True)]
    unit, count = "harmonic mean of nine shares, 0 to 1", sum(len(rows) for rows in scores)
    ends = bootstrap_harmonic_mean(scores)
    return Figure("model_utility", model_utility(parts), unit, count, *ends, "higher")


def _forget_quality(rows: Sequence[Row], reference: Reference) -> list[Figure]:
    """Test whether the truth ratios of both models are alike; return p-value and distance."""
    theirs = _checked_reference([row.row_id for row in rows], reference)
    own = [row.scores[RATIO] for row in rows]
    distance, p_value = two_sample_ks(own, [row.scores[RATIO] for row in theirs])
    note = f"Kolmogorov-Smirnov against {len(theirs)} rows of the reference"
    gap, count = "largest gap of two distribution functions, 0 to 1", len(rows)
    return [
        Figure("forget_quality", p_value, "p-value, 0 to 1", count, None, None, "higher", note),
        Figure("forget_distance", distance, gap, count, better="lower", note=note),
    ]


def _checked_reference(ids: Sequence[str], reference: Reference) -> Sequence[Row]:
    if not reference or not reference.get("forget"):
        raise InputError(
            "Parameter `forget_quality` of the suite tofu needs the rows of a retain model. Found "
            "none; give `--reference RETAIN_MODEL`, trained on the same data without the forget "
            "rows (configs/tofu_smollm2_retain.yaml trains one), or the folder of its evaluation; "
            f"or leave forget quality out with `{_WITHOUT}`."
        )
    theirs = [row for row in reference["forget"] if not math.isnan(row.scores.get(RATIO, math.nan))]
    repair = "the same `forget_split` and the same selection of rows"
    check_same_rows(ids, [row.row_id for row in theirs], "forget rows as this evaluation", repair)
    return theirs
