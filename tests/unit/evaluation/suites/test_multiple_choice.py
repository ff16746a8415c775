"""Multiple choice on hand-made questions and hand-made outcomes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Outcome, Probe
from lit_unlearn.evaluation.suites.multiple_choice import BENCHMARKS, MultipleChoice
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.metrics.functional.choices import Normalisation
from tests.unit.evaluation.suites.made import Outcomes, by_name, forced, outcomes, shuffled

ROWS = [
    {"question": "Largest planet?", "choices": ["Mars", "Jupiter", "Venus"], "answer": 1},
    {"question": "Capital of France?", "choices": ["Paris", "Rome"], "answer": 0},
    {"question": "2396 - 1709?", "choices": ["687", "687", "1493"], "answer": 0},
]


@pytest.fixture
def suite(tmp_path: Path) -> MultipleChoice:
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    source = Source(str(file), domain="multiple_choice")
    return MultipleChoice(benchmarks=[], sources={"own": source})


def said(probes: Sequence[Probe], likely: Sequence[int], replies: Sequence[str]) -> Outcomes:
    """The row's likely option has log-probability -1, all others -3; and the replies in order."""
    found = []
    texts, words = iter(likely), iter(replies)
    for probe in probes:
        chosen = next(texts) if probe.candidates else -1
        thoughts = {
            name: forced(-1.0 if i == chosen else -3.0, -9.0)
            for i, name in enumerate(probe.candidates)
        }
        reply = (next(words),) if probe.generation else ()
        found.append(Outcome(probe.probe_id, thoughts, reply))
    return {"": found}


def test_letters_are_asked_after_the_lettered_options(suite: MultipleChoice) -> None:
    first, *_, last = suite.probes(None)
    assert first.turns[-1].content == (
        "Largest planet?\nA. Mars\nB. Jupiter\nC. Venus\n"
        "Answer with the letter of the right option."
    )
    assert first.candidates == {"option/0": "A", "answer": "B", "option/2": "C"}
    assert list(last.candidates) == ["answer", "answer/1", "option/2"]
    assert len(suite.probes(None)) == 3


def test_texts_are_asked_after_the_question_alone(suite: MultipleChoice) -> None:
    first, second, *rest = replace(suite, options="texts").probes(None)
    assert first.turns[-1].content == "Largest planet?"
    assert first.candidates == {"option/0": "Mars", "answer": "Jupiter", "option/2": "Venus"}
    assert first.generation is None
    assert second.probe_id == f"{first.probe_id}/written"
    assert second.turns[-1].content.startswith("Largest planet?\nA. Mars")
    assert second.candidates == {}
    assert len(rest) == 4
    assert len(replace(suite, options="texts", written=False).probes(None)) == 3


@pytest.mark.parametrize("options", ["letters", "texts"])
def test_figures_by_hand(suite: MultipleChoice, options: str) -> None:
    """Likely: Jupiter (right), Rome (wrong), the second 687 (right as well): 2 of 3.

    The right option's share is 1 / (1 + 2 e^-2), e^-2 / (1 + e^-2), and of the two equal ones
    (1 + e^-2) / (1 + 2 e^-2). Written: right by letter, right by text, none.
    """
    suite = replace(suite, options=options)
    probes = suite.probes(None)
    result = suite.score(probes, said(probes, [1, 1, 1], ["B", "It is Paris.", "I cannot say."]))
    figures, e = by_name(result), math.exp(-2)
    shares = [1 / (1 + 2 * e), e / (1 + e), (1 + e) / (1 + 2 * e)]
    assert [row.scores["probability"] for row in result.rows] == pytest.approx(shares)
    assert figures["own/accuracy"].value == pytest.approx(2 / 3)
    assert figures["own/probability"].value == pytest.approx(sum(shares) / 3)
    assert figures["own/written_accuracy"].value == pytest.approx(2 / 3)
    assert figures["own/written_choice"].value == pytest.approx(2 / 3)
    assert figures["own/accuracy"].note == f"chance {(1 / 3 + 1 / 2 + 2 / 3) / 3:.3f}"
    assert all(figure.count == 3 for figure in figures.values())
    assert [row.row_id for row in result.rows] == ["own/0", "own/1", "own/2"]


def test_a_tie_counts_by_its_share(suite: MultipleChoice) -> None:
    """All options alike: 1/3, 1/2, 2/3 as accuracy and as probability."""
    probes = suite.probes(None)
    result = suite.score(probes, outcomes(probes, lambda _: ""))
    for score in ("accuracy", "probability"):
        assert [row.scores[score] for row in result.rows] == pytest.approx([1 / 3, 1 / 2, 2 / 3])


@pytest.mark.parametrize(
    ("normalisation", "best"), [("sum", "Paris"), ("token", "Rome"), ("character", "Rome")]
)
def test_normalisation_decides(
    suite: MultipleChoice, normalisation: Normalisation, best: str
) -> None:
    """Paris: one token of -2.5; Rome: two of -1.4. Sums -2.5 > -2.8, per token -2.5 < -1.4.

    Per character -2.5 / 5 = -0.5 of Paris > -2.8 / 4 = -0.7 of Rome would choose Paris; with one
    token of -4 for Paris, -0.8 < -0.7.
    """
    suite = replace(suite, options="texts", normalisation=normalisation, written=False)
    probe = suite.probes(None)[1]
    paris = -4.0 if normalisation == "character" else -2.5
    texts = {"answer": forced(paris, 0.0), "option/1": forced(-1.4, -1.4, 0.0)}
    (row,) = suite.score([probe], outcomes([probe], text=texts.__getitem__)).rows
    assert row.scores["accuracy"] == (best == "Paris")


def test_a_certain_model_has_probability_1(suite: MultipleChoice) -> None:
    probes = suite.probes(None)[:2]
    found = outcomes(probes, text=lambda n: forced(0.0 if n == "answer" else -2000.0, 0.0))
    figures = by_name(suite.score(probes, found))
    assert {figure.value for figure in figures.values()} == {1}


def test_row_order_changes_nothing(suite: MultipleChoice) -> None:
    suite = replace(suite, options="texts")
    probes = suite.probes(None)
    found = said(probes, [1, 1, 2], ["B", "Rome", "687"])
    turned = suite.score(shuffled(probes), {"": shuffled(found[""])})
    first, second = by_name(suite.score(probes, found)), by_name(turned)
    assert {name: f.value for name, f in first.items()} == pytest.approx(
        {name: f.value for name, f in second.items()}
    )


def test_shuffled_options_keep_the_right_one(suite: MultipleChoice) -> None:
    plain = suite.probes(None)
    mixed = replace(suite, shuffle=True).probes(None)
    assert mixed == replace(suite, shuffle=True).probes(None)
    assert [p.turns for p in mixed] != [p.turns for p in plain]
    for probe, row in zip(mixed, ROWS, strict=True):
        letter = probe.candidates["answer"]
        right = row["choices"][row["answer"]]
        assert f"\n{letter}. {right}\n" in probe.turns[-1].content


def test_direction(suite: MultipleChoice) -> None:
    probes = suite.probes(None)
    found = outcomes(probes)
    assert by_name(suite.score(probes, found))["own/accuracy"].better == "higher"
    gone = by_name(replace(suite, forget=["own"]).score(probes, found))
    assert gone["own/written_accuracy"].better == "lower"
    assert gone["own/written_choice"].better == "neither"


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_real_benchmarks(benchmark_data: Path, name: str) -> None:
    suite = MultipleChoice(benchmarks=[name], rows=Selection(limit=20))
    probes = suite.probes(benchmark_data)
    assert len(probes) == 20
    letters = Counter(probe.candidates["answer"] for probe in probes)
    assert len(letters) > 1
    assert max(letters.values()) < 15  # TruthfulQA's right option stands first in its file


def test_subjects_of_mmlu(benchmark_data: Path) -> None:
    suite = MultipleChoice(subjects=["virology"])
    probes = suite.probes(benchmark_data)
    rows = read_rows(Source("cais/mmlu", "virology", "test"), benchmark_data)
    assert len(probes) == len(rows) > 0
    assert {probe.group for probe in probes} == {"mmlu"}


def test_names(suite: MultipleChoice) -> None:
    with pytest.raises(InputError, match=r"at least one set of questions.*Found 'none'"):
        MultipleChoice(benchmarks=[]).probes(None)
    both = MultipleChoice(benchmarks=["mmlu"], sources={"mmlu": suite.sources["own"]})
    with pytest.raises(InputError, match=r"Found 'mmlu' in both"):
        both.probes(None)
