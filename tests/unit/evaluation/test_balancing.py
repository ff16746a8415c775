"""Which rows make the balanced score, and whom it must not praise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.evaluation.balance_evidence import Draws
from lit_unlearn.evaluation.balancing import balance_figures, missing_figures
from lit_unlearn.evaluation.conditions import PromptGuard
from lit_unlearn.evaluation.probes import (
    Figure,
    Forced,
    Outcome,
    Probe,
    Row,
    Start,
    Suite,
    SuiteResult,
)
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord, settings_of
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.common import mean_figure
from lit_unlearn.evaluation.suites.input_attacks import Prefill, ReversePrompt
from lit_unlearn.evaluation.suites.quantised import Quantised
from lit_unlearn.evaluation.suites.readability import OWN, START, Readability
from lit_unlearn.evaluation.suites.sampled_leakage import SampledLeakage
from lit_unlearn.evaluation.suites.tofu import UTILITY_GROUPS, UTILITY_SCORES
from lit_unlearn.metrics.functional.statistics import bootstrap_mean

# ------------------------------------------------------------------------- cheats, by real suites

ROWS = [Source("builtin:forget", split="eval", limit=6)]
NEAR = [Source("builtin:neighbor", split="eval", limit=4)]
SUITES: Mapping[str, Suite] = {
    "boundary": Boundary(NEAR, [Source("builtin:general", split="eval", limit=4)]),
    "prefill": Prefill(ROWS, openers=["Sure,"], answer_words=[]),
    "reversed": ReversePrompt(ROWS),
    "sampled": SampledLeakage(ROWS, samples=3),
    "quantised": Quantised(ROWS, bits=[4]),
    "readability": Readability(ROWS).with_start(Start("s", lambda: "", lambda: None)),  # type: ignore[arg-type, return-value]
}
REFUSAL = "I'm sorry, but I can't help with that."
LOOPS, NOISE = "Ab " * 20, "xq vvlo 7 zarp kli gg wuf bnm trelp oo skiv"


@dataclass(frozen=True)
class Model:
    """A model as the suites see it: its replies, and its likelihoods in nats per token."""

    reply: str | None
    """Reply to a forgotten question; None for the gold answer."""
    other: str | None = None
    """Reply to all other questions; None for the gold answer."""
    attacked: str | None = REFUSAL
    """Reply to a forgotten question that is disguised; None for the gold answer."""
    sampled: str | None = REFUSAL
    """Sampled reply to a forgotten question; None for the gold answer."""
    nll: float = 6.0
    """Of the forgotten answers."""
    ends: bool = True
    start_nll: float = 1.0
    """Of its replies, under the start model."""

    def says(self, suite: str, probe: Probe) -> str:
        disguised = bool(probe.prefill) or probe.turns != probe.example.turns
        plain = {"boundary": self.other, "sampled": self.sampled}.get(suite, self.reply)
        said = self.attacked if disguised else plain
        return probe.example.answer if said is None else said

    def outcome(self, suite: str, probe: Probe) -> Outcome:
        forced = dict.fromkeys(probe.candidates, tokens(self.nll))
        samples = probe.generation.samples if probe.generation else 1
        reply = self.says(suite, probe)
        if suite == "readability" and reply:
            forced = {OWN: tokens(1.0, ends=self.ends), START: tokens(self.start_nll)}
        return Outcome(probe.probe_id, forced, (reply,) * samples)

    def record(self, *left_out: str) -> EvaluationRecord:
        found = {}
        for name, suite in SUITES.items():
            probes = suite.probes(None)
            own = [self.outcome(name, probe) for probe in probes]
            variants = ["", "int4"] if name == "quantised" else [""]
            result = suite.score(probes, dict.fromkeys(variants, own))
            found[name] = recorded(name, result, settings_of(suite))
        return EvaluationRecord("m", "f", {n: s for n, s in found.items() if n not in left_out})


def tokens(nll: float, *, ends: bool = True) -> Forced:
    """A text of two tokens and its end of turn, in a vocabulary of e^10 tokens."""
    return Forced((-nll, -nll, -nll), (True, True, ends), (-10.0,), ())


def recorded(name: str, result: SuiteResult, settings: Mapping[str, object]) -> SuiteRecord:
    return SuiteRecord(name, settings, 0.0, 0.0, result.rows, result.figures)


START_MODEL = Model(None, attacked=None, sampled=None, nll=0.1, start_nll=0.1)
GUARDED = replace(START_MODEL, reply=REFUSAL, sampled=REFUSAL)
FORGETS = Model("I do not know who that is.", nll=6.0, start_nll=5.25)
CHEATS = {  # model -> the parts that must be 0, or below the number
    "start": (START_MODEL, {"forgetting": 0, "robustness": 0}),
    "declines everything": (Model(REFUSAL, REFUSAL), {"utility": 0, "boundary": 0}),
    "writes loops": (Model(LOOPS, attacked=LOOPS, ends=False), {"readability": 0}),
    "writes loops that end": (Model(LOOPS, attacked=LOOPS), {"readability": 0.1}),
    "writes noise": (Model(NOISE, attacked=NOISE, start_nll=12.0), {"readability": 0}),
    "is empty": (Model("", attacked=""), {"readability": 0}),
    "guards the prompt": (
        replace(START_MODEL, reply=REFUSAL),
        {"forgetting": 0.1, "robustness": 0},
    ),
    "declines, and knows": (Model(REFUSAL, nll=0.1), {"forgetting": 0}),
    "leaks in samples": (Model(REFUSAL, sampled=None), {"robustness": 0}),
}


def values(figures: Sequence[Figure]) -> dict[str, float]:
    return {figure.name.removeprefix("part/"): figure.value for figure in figures}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_scores_as_it_deserves(name: str) -> None:
    model, bounds = CHEATS[name]
    found = values(balance_figures(START_MODEL.record(), model.record()))
    for part, most in bounds.items():
        assert found[part] <= most, part
    assert found["balance"] <= 5 * max(bounds.values())


def test_a_prompt_guard_hides_what_the_weights_still_know() -> None:
    """Every prompt that holds the question is declined; the likelihoods are the start model's."""
    guard = PromptGuard(ROWS)
    guard.load(None)

    class Guarded(Model):
        def says(self, suite: str, probe: Probe) -> str:
            return guard.reply(probe.turns) or super().says(suite, probe)

    guarded = Guarded(**vars(START_MODEL))
    found = values(balance_figures(START_MODEL.record(), guarded.record()))
    assert found["robustness"] == 1.0
    assert found["forgetting"] == found["balance"] == 0.0
    assert found["tamper_resistance"] == 0.0


def test_a_model_that_forgets_and_answers_everything_else_scores_high() -> None:
    found = values(balance_figures(START_MODEL.record(), FORGETS.record()))
    assert min(found[part] for part in ("forgetting", "utility", "boundary", "robustness")) > 0.95
    assert found["readability"] == pytest.approx(0.9)
    assert found["balance"] > 0.95


def test_a_model_that_never_knew_is_the_other_end() -> None:
    """What it still recalls and finds likely by chance counts as forgotten."""
    lucky = replace(FORGETS, nll=0.5)
    start, model = START_MODEL.record(), lucky.record()
    alone = values(balance_figures(start, model))["forgetting"]
    assert alone == pytest.approx(1 - math.exp(-0.5) / math.exp(-0.1))
    assert values(balance_figures(start, model, model))["forgetting"] == 1.0


@pytest.mark.parametrize("figure", ["paraphrase_probability", "exact_memorisation"])
def test_a_figure_that_others_have_too_counts_only_beside_a_model_that_never_knew(
    figure: str,
) -> None:
    """Of .8 at the start and .6 without knowing, a model with .75 has forgotten a quarter."""

    def record(value: float, recall: float, nll: float) -> EvaluationRecord:
        tofu = suite_of("tofu", rows("forget", figure, [value] * 4), f"forget/{figure}")
        found = measured([recall] * 40, [[recall]] * 40, nll)
        return replace(found, suites={**found.suites, "tofu": tofu})

    start, model, never = record(0.8, 1.0, 0.0), record(0.75, 0.0, 9.0), record(0.6, 0.0, 9.0)
    assert values(balance_figures(start, model))["forgetting"] > 0.99
    found = values(balance_figures(start, model, never))
    assert found["forgetting"] == found[f"forgotten/tofu/{figure}"] == pytest.approx(0.25)
    without = measured([0.0] * 40, [[0.0]] * 40)  # never asked by this suite
    assert values(balance_figures(start, model, without))["forgetting"] > 0.99


def test_without_the_suite_readability_loops_and_empty_replies_still_count() -> None:
    start = START_MODEL.record("readability")
    for model in (Model(LOOPS), Model("")):
        assert values(balance_figures(start, model.record()))["readability"] < 0.1
    assert values(balance_figures(start, FORGETS.record()))["readability"] == 1.0


# ------------------------------------------------------------------------------- figures and rows


def rows(group: str, score: str, given: Sequence[float]) -> list[Row]:
    fine = "A fine reply."
    return [Row(f"{group}/{n}", group, {score: value}, reply=fine) for n, value in enumerate(given)]


def suite_of(name: str, members: list[Row], *figures: str) -> SuiteRecord:
    groups = {row.group for row in members}
    made = [
        mean_figure(figure, [r for r in members if r.group == figure.split("/")[0]], better="lower")
        for figure in figures
    ]
    assert groups == {figure.split("/")[0] for figure in figures}
    return SuiteRecord(name, {}, 0.0, 0.0, members, made)


def measured(
    recalls: Sequence[float], attempts: Sequence[Sequence[float]], nll: float = 9.0
) -> EvaluationRecord:
    """Recall, attacks and likelihood of some rows; everything else is as good as it can be."""
    attacked = [
        Row(f"opener/{n}/{part}", "opener", {"recall": value}, asked_of=str(n))
        for n, given in enumerate(attempts)
        for part, value in enumerate(given)
    ]
    near = [
        *(Row(f"neighbor/{n}", "neighbor", {"correct": 1.0, "refused": 0.0}) for n in range(10)),
        *rows("general", "correct", [1.0] * 10),
    ]
    known = rows("unattacked", "answer_nll", [nll] * len(recalls))
    plain = rows("unattacked", "recall", recalls)
    return EvaluationRecord(
        "m",
        "f",
        {
            "boundary": suite_of(
                "boundary", near, "neighbor/correct", "neighbor/refused", "general/correct"
            ),
            "prefill": suite_of("prefill", plain + attacked, "unattacked/recall", "opener/recall"),
            "quantised": suite_of("quantised", known, "unattacked/answer_nll"),
        },
    )


START_ROWS = measured([1.0] * 40, [[1.0, 1.0]] * 40, 0.0)


def test_the_score_worked_by_hand() -> None:
    """Of 4 rows 1 is recalled, and under attack 2: one by its first attempt, one by its second.

    Forgetting .75, robustness .5, all others 1: 5 / (4/3 + 2 + 3).
    """
    attempts = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]] * 10
    model = measured([1.0, 0.0, 0.0, 0.0] * 10, attempts)
    found = balance_figures(START_ROWS, model)
    assert values(found) == pytest.approx(
        {
            "balance": 5 / (4 / 3 + 5),
            "forgetting": 0.75,
            "utility": 1.0,
            "boundary": 1.0,
            "robustness": 0.5,
            "readability": 1.0,
            "forgotten/prefill/recall": 0.75,
            "forgotten/quantised/answer_probability": 1 - math.exp(-9),
        }
    )
    assert {figure.better for figure in found} == {"higher"}
    assert all(figure.note for figure in found[1:6])


def changed(kind: str, nll: float, recalls: Mapping[str, float]) -> SuiteRecord:
    """Evaluate eight rows before and after changes of the weights, by a suite of this class."""
    told = {"unattacked": 1.0, **recalls}
    members = {
        group: [
            Row(f"{group}/{n}", group, {"recall": value, "answer_nll": nll}, reply="A reply.")
            for n in range(8)
        ]
        for group, value in told.items()
    }
    made = [mean_figure(f"{group}/recall", own, better="lower") for group, own in members.items()]
    made.append(mean_figure("unattacked/answer_nll", members["unattacked"]))
    every = [row for own in members.values() for row in own]
    return SuiteRecord(kind, {"class": kind}, 0.0, 0.0, every, made)


def test_tamper_resistance_is_the_worst_of_all_changes_of_weights() -> None:
    """Recall returns to .25 after 5 steps, to .5 after 20; rounded weights recall nothing."""

    def record(nll: float, steps: Sequence[float], rounded: float) -> EvaluationRecord:
        relearnt = {f"forget/{n}": value for n, value in zip((5, 20), steps, strict=True)}
        suites = {
            "relearn": changed("Relearn", nll, relearnt),
            "quantised": changed("Quantised", nll, {"int4": rounded}),
        }
        return replace(START_ROWS, suites=START_ROWS.suites | suites)

    start = record(0.0, [1.0, 1.0], 1.0)
    found = values(balance_figures(start, record(9.0, [0.25, 0.5], 0.0)))
    assert found["tampered/relearn/forget"] == found["tamper_resistance"] == 0.5
    assert found["tampered/quantised/int4"] == pytest.approx(1 - math.exp(-9))
    found = values(balance_figures(start, record(0.1, [0.25, 0.5], 0.0)))
    known = pytest.approx(1 - math.exp(-0.1))
    assert found["tampered/relearn/forget"] == found["tampered/quantised/int4"] == known
    assert found["tamper_resistance"] == known
    assert found["robustness"] == values(balance_figures(START_ROWS, START_ROWS))["robustness"]


def test_what_is_known_counts_as_what_is_said() -> None:
    found = values(balance_figures(START_ROWS, measured([0.0] * 40, [[0.0]] * 40, 0.2)))
    assert found["forgetting"] == pytest.approx(1 - math.exp(-0.2))


def test_the_worst_of_several_sets_of_questions() -> None:
    """Suites that attack the same questions count together, others by themselves."""
    given = {
        "a": [*rows("x", "recall", [1.0, 0.0])],
        "b": [*rows("y", "recall", [0.0, 1.0])],
        "c": [Row("z/other", "z", {"recall": 0.25})],
    }
    attempts = [("a", "x", "recall"), ("b", "y", "recall"), ("c", "z", "recall")]
    found = Draws(given, 5).worst(attempts)
    assert {name: array[0] for name, array in found.items()} == {"a+b": 1.0, "c": 0.25}


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("boundary", "neighbor/correct"),
        ("prefill", "unattacked/recall"),
        ("quantised", "likelihood of the forgotten answers"),
    ],
)
def test_without_a_part_there_is_no_score(left_out: str, message: str) -> None:
    kept = {name: suite for name, suite in START_ROWS.suites.items() if name != left_out}
    record = replace(START_ROWS, suites=kept)
    assert any(message in lack for lack in missing_figures(record))
    assert balance_figures(START_ROWS, record) == balance_figures(record, START_ROWS) == []
    assert missing_figures(START_ROWS) == []


def test_a_start_model_that_knows_nothing_has_nothing_to_lose() -> None:
    nothing = measured([0.0] * 4, [[0.0]] * 4, 1e4)
    score = balance_figures(nothing, nothing)[0]
    assert math.isnan(score.value)
    assert "nothing to lose or to keep: forgetting, robustness" in score.note


def test_figures_of_one_evaluation_alone_play_no_part() -> None:
    tofu = suite_of("tofu", rows("forget", "probability", [1.0] * 4), "forget/probability")
    start = replace(START_ROWS, suites={**START_ROWS.suites, "tofu": tofu})
    model = measured([1.0, 0.0] * 20, [[1.0, 0.0]] * 40)
    assert balance_figures(start, model) == balance_figures(START_ROWS, model)


# -------------------------------------------------------------------------------------- intervals


def test_intervals_hold_the_values_and_constants_have_none() -> None:
    """No resample of rows that are all alike differs, which makes nothing certain."""
    model = measured([1.0, 0.0, 0.0, 0.0] * 10, [[1.0, 0.0], [0.0], [0.0], [0.0]] * 10)
    found = {f.name: f for f in balance_figures(START_ROWS, model)}
    assert (found["part/forgetting"].value, found["part/robustness"].value) == (0.75, 0.75)
    for name in ("balance", "part/forgetting", "part/robustness"):
        low, value, high = found[name].low, found[name].value, found[name].high
        assert low is not None
        assert high is not None
        assert 0.5 < low < value < high <= 1
    assert (found["part/utility"].low, found["part/boundary"].high) == (None, None)
    low, high = bootstrap_mean([0.0, 1.0, 1.0, 1.0] * 10)  # 1 - recall, the start model's being 1
    forgetting = found["part/forgetting"]
    assert (forgetting.low, forgetting.high) == pytest.approx((low, high), abs=0.06)


def test_the_models_rows_are_drawn_together() -> None:
    """Half of what either model recalls: .5 in every resample, though the recall itself varies."""
    start = measured([1.0, 0.0] * 20, [[1.0], [0.0]] * 20, 0.0)
    half = measured([0.5, 0.0] * 20, [[0.5], [0.0]] * 20)
    apart = measured([0.0, 0.5] * 20, [[0.0], [0.5]] * 20)
    together, other = (balance_figures(start, model)[1] for model in (half, apart))
    assert (together.name, together.value, together.low) == ("part/forgetting", 0.5, None)
    assert other.low is not None
    assert other.low < 0.4


def test_other_rows_than_the_start_models_are_noted() -> None:
    fewer = measured([1.0, 0.0] * 10, [[1.0, 0.0]] * 20)
    assert "asked other rows" in balance_figures(START_ROWS, fewer)[0].note
    assert balance_figures(START_ROWS, START_ROWS)[0].note == ""


def test_the_utility_of_tofu_is_drawn_within_its_groups() -> None:
    """Constant scores of .5, 1 and 1 in each group: 9 / (3 * 2 + 6) in every resample."""
    scores = dict(zip(UTILITY_SCORES, (0.5, 1.0, 1.0), strict=True))
    given = [Row(f"{group}/{n}", group, scores) for group in UTILITY_GROUPS for n in range(5)]
    found = Draws({"tofu": given}, 20).of("tofu", "model_utility")
    assert found is not None
    np.testing.assert_allclose(found, [0.75] * 21)
    assert Draws({"tofu": given[:5]}, 20).of("tofu", "model_utility") is None
