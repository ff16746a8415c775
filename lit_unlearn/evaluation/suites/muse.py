"""MUSE: memory of a corpus' facts and wording, and separation of its texts from unseen texts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from lit_unlearn.evaluation.suites import privacy_leakage, reciting
from lit_unlearn.evaluation.suites.common import mean_figure, subject_outcomes
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.metrics.functional.scores import rouge_l_f1
from lit_unlearn.types import Example, Turn

__all__ = ["Muse"]

_STOPS = ("\n\n", "\nQuestion", "Question:")
_UNIT = "harmonic mean of two shares of words (F1), 0 to 1"


@dataclass
class Muse(Suite):
    """MUSE (Shi et al., arXiv 2407.06460): memory of the facts and wording of a forgotten corpus.

    `forget/rouge_l_f1` and `retain/rouge_l_f1` are knowledge memorisation: greedy answers, after
    examples, to questions about the corpus and about the rest. Two further figures need texts that
    are not part of the suite: `verbatim/rouge_l_f1`, the share of a passage that a model recites
    after its beginning, and `privacy_leakage`, the separation of the corpus from unseen texts.

    Args:
        corpus: One of MUSE's two corpora.
        path: Hub id of the data set, or a local folder of the same layout; null for
            `muse-bench/MUSE-<corpus>`.
        form: `plain` for MUSE's prompt for base models, one text of `Question: ...` and
            `Answer: ...`; `chat` for turns of a conversation.
        shots: Number of examples before each question; MUSE has 10.
        stemmer: Compare stems of words, as open-unlearning does and MUSE does not.
        max_new_tokens: Maximum number of tokens of an answer.
        forget: Rows to ask of the questions about the corpus.
        retain: Rows to ask of the questions about the rest.
        verbatim: Passages with the columns `prompt` and `gt` (the text that follows), such as
            `{path: muse-bench/MUSE-News, config: verbmem, split: forget}`; null leaves them out.
        verbatim_tokens: Maximum number of tokens that are recited; `gt` is truncated to it.
        tokenizer: Hub id or folder of the tokenizer that truncates `gt`; null compares with the
            whole `gt`, as open-unlearning does.
        members: Texts of the corpus, column `text` or a .txt file with one text per line, for
            `privacy_leakage`; null leaves it out.
        holdout: Texts of the same kind that no model has seen.
        min_k: Share of the least likely tokens that Min-K % averages.
        retain_auc: `members/auc_min_k` of the retain model, instead of its rows as a reference.
            MUSE's code defines the AUC as 1 minus this one: its constants .4772 (News) and .5393
            (Books), of its retain models, are .5228 and .4607 here.
    """

    name: ClassVar[str] = "muse"

    corpus: Literal["News", "Books"] = "Books"
    path: str | None = None
    form: Literal["plain", "chat"] = "plain"
    shots: int = 10
    stemmer: bool = False
    max_new_tokens: int = 32
    forget: Selection = field(default_factory=Selection)
    retain: Selection = field(default_factory=Selection)
    verbatim: Source | None = None
    verbatim_tokens: int = 128
    tokenizer: str | None = None
    members: Source | None = None
    holdout: Source | None = None
    min_k: float = 0.4
    retain_auc: float | None = None

    def __post_init__(self) -> None:
        if (self.members is None) != (self.holdout is None):
            raise InputError(
                "Parameters `members` and `holdout` of the suite muse should both be given, or "
                "neither. Found one of them; give the other too, as privacy leakage compares both."
            )

    def forgets(self, group: str) -> bool:
        return group not in ("retain", "holdout")

    def probes(self, data_root: Path | None) -> list[Probe]:
        found: list[Probe] = []
        for group, selection in (("forget", self.forget), ("retain", self.retain)):
            shots = self._examples(f"{group}_qa_icl", data_root)[: self.shots] if self.shots else []
            rows = selection.of(self._examples(f"{group}_qa", data_root), group)
            found += [self._question(group, example, shots) for example in rows]
        if self.verbatim is not None:
            found += reciting.probes(self.verbatim, data_root, self.verbatim_tokens, self.tokenizer)
        if self.members is not None and self.holdout is not None:
            found += privacy_leakage.probes(self.members, self.holdout, data_root)
        return found

    def _examples(self, split: str, data_root: Path | None) -> list[Example]:
        path = self.path or f"muse-bench/MUSE-{self.corpus}"
        source = Source(path, "knowmem", split, domain="question_answer")
        return load_examples([source], data_root)

    def _question(self, group: str, example: Example, shots: Sequence[Example]) -> Probe:
        plain = self.form == "plain"
        pairs = [(Turn("user", shot.question), Turn("assistant", shot.answer)) for shot in shots]
        turns = (*(turn for pair in pairs for turn in pair), *example.turns)
        if plain:  # MUSE's prompt, which ends with a space
            shown = "".join(f"Question: {s.question}\nAnswer: {s.answer}\n\n" for s in shots)
            turns = (Turn("user", f"{shown}Question: {example.question}\nAnswer: "),)
        generation = Generation(self.max_new_tokens, stops=_STOPS)
        probe_id = f"{group}/{example.example_id}"
        return Probe(probe_id, group, example, turns, plain, generation=generation)

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        """Score the outcomes; only `privacy_leakage` reads the reference."""
        rows = [self._row(*pair) for pair in subject_outcomes(probes, outcomes)]
        figures = [self._recall(rows, group) for group in ("forget", "retain", reciting.GROUP)]
        figures += privacy_leakage.figures(rows, reference, self.retain_auc)
        return SuiteResult(rows, figures)

    def check(self, probes: Probes, reference: Reference) -> None:
        privacy_leakage.check(probes, reference)

    def _row(self, probe: Probe, outcome: Outcome) -> Row:
        if probe.group in privacy_leakage.GROUPS:
            return privacy_leakage.row(probe, outcome, self.min_k)
        gold, reply = probe.example.answer, outcome.replies[0]
        scores = {"rouge_l_f1": rouge_l_f1(gold, reply, stemmer=self.stemmer)}
        return Row(probe.probe_id, probe.group, scores, probe.example.question, gold, reply)

    def _recall(self, rows: Sequence[Row], group: str) -> Figure:
        name = f"{group}/rouge_l_f1"
        better: Better = "higher" if group == "retain" else "lower"
        own = [row for row in rows if row.group == group]
        if not own:
            note = f"not measured: `{group}` names no source"
            return Figure(name, math.nan, _UNIT, 0, better=better, note=note)
        return mean_figure(name, own, _UNIT, better)
