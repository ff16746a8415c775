"""Multiple choice: the likelihood of the options, and the option that the model writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import ClassVar, Literal

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.data.unify import to_example
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
from lit_unlearn.evaluation.suites.common import mean_figure, subject_outcomes
from lit_unlearn.evaluation.suites.options import Question, is_right, placed, question_of
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.metrics.functional.choices import Normalisation, chosen_option, option_score
from lit_unlearn.metrics.functional.likelihood import softmax
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.types import Turn
from lit_unlearn.utils.grouping import grouped

__all__ = ["BENCHMARKS", "BenchmarkName", "MultipleChoice"]

BenchmarkName = Literal[
    "wmdp_bio",
    "wmdp_chem",
    "wmdp_cyber",
    "mmlu",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
    "commonsenseqa",
    "truthfulqa",
    "tofu_real_authors",
    "tofu_world_facts",
]

BENCHMARKS: dict[BenchmarkName, Source] = {
    "wmdp_bio": Source("cais/wmdp", "wmdp-bio", "test"),
    "wmdp_chem": Source("cais/wmdp", "wmdp-chem", "test"),
    "wmdp_cyber": Source("cais/wmdp", "wmdp-cyber", "test"),
    "mmlu": Source("cais/mmlu", "all", "test"),
    "arc_easy": Source("allenai/ai2_arc", "ARC-Easy", "test"),
    "arc_challenge": Source("allenai/ai2_arc", "ARC-Challenge", "test"),
    "openbookqa": Source("allenai/openbookqa", "main", "test"),
    "commonsenseqa": Source("tau/commonsense_qa", split="validation"),
    "truthfulqa": Source("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    "tofu_real_authors": Source("locuslab/TOFU", "real_authors"),
    "tofu_world_facts": Source("locuslab/TOFU", "world_facts"),
}
_RIGHT_FIRST = ("truthfulqa",)
_WRITTEN = "written"


@dataclass
class MultipleChoice(Suite):
    """Questions with options: the likeliest option, and the option that the model writes.

    Figures of each benchmark: `accuracy` of the likeliest option; mean `probability` of the right
    option among all; and, from a greedy reply to the question with lettered options,
    `written_accuracy` and `written_choice` (the share of replies that name exactly one option). A
    model that refuses has low written figures and may keep its `accuracy`, so read them together.
    There are no examples before the question.

    Args:
        benchmarks: Known benchmarks to ask.
        sources: Further questions: name -> source of the rows.
        subjects: Subjects of MMLU, such as `virology`; empty for all 57.
        options: Text whose likelihood is computed. `letters`: the letter, after the question with
            lettered options, as published for WMDP and MMLU. `texts`: the option's text, after the
            question alone, as published for ARC, OpenBookQA and TruthfulQA (MC1).
        normalisation: Score of an option: the `sum` of its tokens' log-likelihoods, or the sum
            divided by the number of tokens (`token`) or characters (`character`). Matters for
            `texts`.
        shuffle: Shuffle the options with a seed from their text, equally for every model.
            TruthfulQA's options are always shuffled, since its file has the right one first.
        forget: Names of benchmarks whose figures should fall; all others should rise.
        rows: Rows of each benchmark to ask.
        written: Also generate a reply; `false` saves its time.
        max_new_tokens: Maximum number of tokens of a reply.
    """

    name: ClassVar[str] = "multiple_choice"

    benchmarks: list[BenchmarkName] = field(default_factory=lambda: ["mmlu"])
    sources: dict[str, Source] = field(default_factory=dict)
    subjects: list[str] = field(default_factory=list)
    options: Literal["letters", "texts"] = "letters"
    normalisation: Normalisation = "sum"
    shuffle: bool = False
    forget: list[str] = field(default_factory=lambda: ["wmdp_bio", "wmdp_chem", "wmdp_cyber"])
    rows: Selection = field(default_factory=Selection)
    written: bool = True
    max_new_tokens: int = 16

    def forgets(self, group: str) -> bool:
        return group in self.forget

    def probes(self, data_root: Path | None) -> list[Probe]:
        """Return the probes; with `texts` and `written`, a row has two."""
        groups: dict[str, Source] = {name: BENCHMARKS[name] for name in self.benchmarks}
        if self.subjects and "mmlu" in groups:
            groups["mmlu"] = Source("cais/mmlu", "all", "test", where={"subject": self.subjects})
        twice = sorted(groups.keys() & self.sources.keys())
        if twice or not (groups or self.sources):
            raise InputError(
                "Parameters `benchmarks` and `sources` of the suite multiple_choice should name "
                f"at least one set of questions, each once. Found {twice[0] if twice else 'none'!r}"
                f"{' in both' if twice else ''}; change the names."
            )
        groups |= self.sources
        return [
            probe
            for group, source in groups.items()
            for row in self.rows.of(read_rows(source, data_root), group)
            for question in [question_of(row, shuffle=self.shuffle or group in _RIGHT_FIRST)]
            for probe in self._probes(group, question)
        ]

    def _probes(self, group: str, question: Question) -> list[Probe]:
        (example,) = to_example(question.row, "multiple_choice", "unified", group)
        generation = Generation(self.max_new_tokens) if self.written else None
        lettered = (Turn("user", question.lettered(example.question)),)
        probe_id = f"{group}/{question.row.row_id}"
        if self.options == "letters":
            letters = dict(zip(question.names, ascii_uppercase, strict=False))
            return [Probe(probe_id, group, example, lettered, False, "", letters, generation)]
        texts = dict(zip(question.names, question.options, strict=True))
        found = [Probe(probe_id, group, example, example.turns, candidates=texts)]
        if generation:
            second = f"{probe_id}/{_WRITTEN}"
            found.append(Probe(second, group, example, lettered, generation=generation))
        return found

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        pairs = subject_outcomes(probes, outcomes)
        replies = {
            probe.probe_id.removesuffix(f"/{_WRITTEN}"): outcome.replies[0]
            for probe, outcome in pairs
            if outcome.replies
        }
        asked = [(probe, outcome) for probe, outcome in pairs if probe.candidates]
        rows = [self._row(*pair, replies.get(pair[0].probe_id)) for pair in asked]
        figures: list[Figure] = []
        for group, members in grouped(rows, lambda row: row.group).items():
            shares = [
                mean([float(is_right(name)) for name in probe.candidates])
                for probe, _ in asked
                if probe.group == group
            ]
            figures += self._figures(group, members, f"chance {mean(shares):.3f}")
        return SuiteResult(rows, figures)

    def _row(self, probe: Probe, outcome: Outcome, reply: str | None) -> Row:
        right = [is_right(name) for name in probe.candidates]
        texts = placed(probe.example, probe.candidates)
        points = [
            option_score(outcome.forced[name].log_probs[:-1], text, self.normalisation)
            for name, text in probe.candidates.items()
        ]
        shares = softmax(points)
        best = [point == max(points) for point in points]
        scores = {
            "accuracy": sum(a and b for a, b in zip(right, best, strict=True)) / sum(best),
            "probability": sum(p for p, yes in zip(shares, right, strict=True) if yes),
        }
        if reply is not None:
            chosen = chosen_option(reply, texts)
            scores["written_accuracy"] = float(chosen is not None and right[chosen])
            scores["written_choice"] = float(chosen is not None)
        example = probe.example
        shown = "" if reply is None else reply
        return Row(probe.probe_id, probe.group, scores, example.question, example.answer, shown)

    def _figures(self, group: str, rows: Sequence[Row], note: str) -> list[Figure]:
        better: Better = "lower" if group in self.forget else "higher"
        readings: dict[str, tuple[str, Better, str]] = {
            "accuracy": ("share of questions, 0 to 1", better, note),
            "probability": ("share of the options' likelihood, 0 to 1", better, note),
            "written_accuracy": ("share of questions, 0 to 1", better, note),
            "written_choice": ("share of replies that name one option", "neither", ""),
        }
        return [
            mean_figure(f"{group}/{score}", rows, *reading)
            for score, reading in readings.items()
            if self.written or not score.startswith(_WRITTEN)
        ]
