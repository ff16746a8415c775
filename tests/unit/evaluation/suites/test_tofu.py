"""TOFU on a few hand-made rows and hand-made outcomes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Outcome, Probe, Row
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.evaluation.suites.tofu import Tofu
from tests.unit.evaluation.suites.made import (
    Outcomes,
    by_name,
    certain,
    forced,
    outcomes,
    shuffled,
)

LN2 = math.log(2)
FILES = ("forget10", "retain", "real_authors", "world_facts")
GROUPS = ("forget", "retain", "real_authors", "world_facts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four rows in each file; the last two files have no paraphrases, as in TOFU."""
    for name in FILES:
        rows = [
            {
                "question": f"{name} {i}?",
                "answer": f"the answer is {name} {i}",
                "perturbed_answer": [f"no {i}", f"never {i}"],
            }
            | ({"paraphrased_answer": f"{name} {i} it is"} if name in FILES[:2] else {})
            for i in range(4)
        ]
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / f"{name}_perturbed.json").write_text(text)
    return tmp_path


@pytest.fixture
def suite(folder: Path) -> Tofu:
    return Tofu(path=str(folder), forget_quality=False)


def reference(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def spread(probes: Sequence[Probe], step: float = 0.3) -> Outcomes:
    """Another outcome for every row: the i-th answer has log-probabilities of about -step i."""
    return {
        "": [
            Outcome(
                probe.probe_id,
                {
                    name: forced(-step * i - k, -0.5, hits=f"{i % 2}{k % 2}")
                    for k, name in enumerate(probe.candidates)
                },
                (" ".join(probe.example.answer.split()[: i % 5]),),
            )
            for i, probe in enumerate(probes)
        ]
    }


def test_probes(suite: Tofu) -> None:
    probes = suite.probes(None)
    assert [probe.group for probe in probes] == [group for group in GROUPS for _ in range(4)]
    assert len({probe.probe_id for probe in probes}) == 16
    assert probes[0].candidates == {
        "answer": "the answer is forget10 0",
        "paraphrase": "forget10 0 it is",
        "wrong/0": "no 0",
        "wrong/1": "never 0",
    }
    assert "paraphrase" not in probes[-1].candidates
    assert probes[0].generation is not None
    assert probes[0].generation.max_new_tokens == 200
    assert suite.probes(None) == probes


def test_rows_of_a_group_can_be_chosen(suite: Tofu) -> None:
    chosen = replace(suite, forget=Selection(limit=1, offset=1), retain=Selection(every=3))
    ids = [probe.probe_id.rsplit("/")[-1] for probe in chosen.probes(None)]
    assert ids == ["1", "0", "3", *"0123", *"0123"]
    with pytest.raises(InputError, match=r"group 'forget' should be below its 4 rows. Found 4"):
        replace(suite, forget=Selection(offset=4)).probes(None)
    with pytest.raises(InputError, match=r"`limit` should be at least 1\. Found 0"):
        Selection(limit=0)


def test_real_files(benchmark_data: Path) -> None:
    probes = Tofu().probes(benchmark_data)
    files = ("forget10_perturbed", "retain_perturbed", "real_authors_perturbed", "world_facts")
    rows = [len(read_rows(Source("locuslab/TOFU", name), benchmark_data)) for name in files]
    assert [sum(p.group == group for p in probes) for group in GROUPS] == rows
    wrong = [sum(name.startswith("wrong/") for name in p.candidates) for p in probes]
    assert set(wrong[: rows[0] + rows[1]]) == {5}


def test_scores_by_hand(suite: Tofu) -> None:
    """Forget row: answer (1/2, 1/8), paraphrase 1/2, wrong 1/4 and 1/4 (per token).

    Probability sqrt(1/16) = 1/4; x = (1/4) / (1/2) = 1/2, its own aggregate min(x, 1/x); hits 1, 0
    of the answer, of which the end of turn is dropped: 1. The reply holds 4 of 5 words.
    """
    probe, *_ = suite.probes(None)
    texts = {
        "answer": forced(-LN2, -3 * LN2, hits="10"),
        "paraphrase": forced(-LN2, -LN2),
        "wrong/0": forced(-2 * LN2),
        "wrong/1": forced(-LN2, -3 * LN2),
    }
    found = outcomes([probe], lambda _: "well the answer is forget10", texts.__getitem__)
    (row,) = suite.score([probe], found).rows
    assert row.scores == pytest.approx(
        {
            "probability": 1 / 4,
            "rouge_l_recall": 4 / 5,
            "truth_ratio": 1 / 2,
            "wrong_over_right": 1 / 2,
            "extraction_strength": 1,
            "exact_memorisation": 1,
            "paraphrase_probability": 1 / 2,
            "repetition": 0,
            "empty": 0,
        }
    )
    (row,) = replace(suite, end_of_turn=True).score([probe], found).rows
    assert (row.scores["extraction_strength"], row.scores["exact_memorisation"]) == (0, 0.5)
    (row,) = replace(suite, truth_ratio="prob_mean").score([probe], found).rows
    assert row.scores["truth_ratio"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("reply", "repeated", "empty"), [(" \n", 0, 1), ("no no no no no no", 2 / 3, 0)]
)
def test_replies_that_nobody_could_read(
    suite: Tofu, reply: str, repeated: float, empty: float
) -> None:
    """Six words alike are three 4-grams, one distinct. Less is better, also of forget rows."""
    probes = suite.probes(None)
    result = suite.score(probes, outcomes(probes, reply=lambda _: reply))
    assert result.rows[0].scores["repetition"] == pytest.approx(repeated)
    assert result.rows[0].scores["empty"] == empty
    figures = by_name(result)
    for name in ("forget/repetition", "retain/empty"):
        assert figures[name].better == "lower"


def test_options_share_the_probability(suite: Tofu) -> None:
    """World facts: right 1/2, wrong 1/4 and 1/4: 1/2; without paraphrase x is 1/4 over 1/2."""
    probe = suite.probes(None)[-1]
    found = outcomes([probe], text=lambda n: forced(-LN2 if n == "answer" else -2 * LN2))
    (row,) = suite.score([probe], found).rows
    assert row.scores["probability"] == pytest.approx(1 / 2)
    assert row.scores["wrong_over_right"] == pytest.approx(1 / 2)
    assert row.scores["truth_ratio"] == pytest.approx(1 / 2)


def test_a_certain_model_has_probability_1(suite: Tofu) -> None:
    probes = suite.probes(None)
    figures = by_name(suite.score(probes, outcomes(probes, text=certain)))
    for group in GROUPS:
        for score in ("probability", "rouge_l_recall", "extraction_strength", "exact_memorisation"):
            assert figures[f"{group}/{score}"].value == 1
    assert figures["forget/truth_ratio"].value == 0  # min(0, 1/0)
    assert figures["retain/truth_ratio"].value == 1
    assert figures["model_utility"].value == 1


def test_a_model_without_utility_has_model_utility_0(suite: Tofu) -> None:
    probes = suite.probes(None)
    figures = by_name(suite.score(probes, outcomes(probes, reply=lambda _: "")))
    assert figures["model_utility"].value == 0


def test_figures_say_what_they_are(suite: Tofu) -> None:
    probes = suite.probes(None)
    figures = by_name(suite.score(probes, spread(probes)))
    assert len(figures) == 4 * 7 + 2
    for figure in figures.values():
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert figure.unit.endswith("0 to 1")
        assert figure.count == (12 if figure.name == "model_utility" else 4)
        gone = figure.name.startswith("forget/") and not figure.name.endswith("truth_ratio")
        unreadable = figure.name.endswith(("/repetition", "/empty"))
        assert figure.better == ("lower" if gone or unreadable else "higher")


def test_model_utility_is_recomputed_from_the_rows(suite: Tofu) -> None:
    probes = suite.probes(None)
    result = suite.score(probes, spread(probes))
    names = ("probability", "rouge_l_recall", "truth_ratio")
    parts = [by_name(result)[f"{group}/{name}"].value for group in GROUPS[1:] for name in names]
    assert by_name(result)["model_utility"].value == pytest.approx(stats.hmean(parts))


def test_row_order_changes_nothing(suite: Tofu) -> None:
    probes = suite.probes(None)
    found = spread(probes)
    theirs = reference(suite.score(probes, spread(probes, 0.9)).rows)
    suite = replace(suite, forget_quality=True)
    first = by_name(suite.score(probes, found, theirs))
    turned = {group: shuffled(rows) for group, rows in theirs.items()}
    second = by_name(suite.score(shuffled(probes), {"": shuffled(found[""])}, turned))
    assert {name: figure.low for name, figure in first.items()} == {
        name: figure.low for name, figure in second.items()
    }
    for name, figure in first.items():
        assert second[name].value == pytest.approx(figure.value, rel=1e-12)


# --------------------------------------------------------------------------------- forget quality


def test_forget_quality_by_hand(suite: Tofu) -> None:
    """Ratios e^0, e^.3, e^.6, e^.9 of the rows against e^10 four times: D = 1, p = 2 / C(8, 4)."""
    probes = suite.probes(None)
    own = suite.score(probes, spread(probes))
    far = [replace(row, scores={"wrong_over_right": math.exp(10)}) for row in own.rows]
    suite = replace(suite, forget_quality=True)
    figures = by_name(suite.score(probes, spread(probes), reference(far)))
    assert figures["forget_distance"].value == 1
    assert figures["forget_quality"].value == pytest.approx(2 / 70)
    assert (figures["forget_quality"].better, figures["forget_quality"].low) == ("higher", None)
    same = by_name(suite.score(probes, spread(probes), reference(own.rows)))
    assert same["forget_quality"].value == 1


@pytest.mark.parametrize("given", [None, {}, {"retain": []}])
def test_forget_quality_without_reference_names_the_repair(
    suite: Tofu, given: dict[str, list[Row]] | None
) -> None:
    probes = suite.probes(None)
    suite = replace(suite, forget_quality=True)
    message = r"`--reference RETAIN_MODEL`.*configs/tofu_smollm2_retain.yaml.*forget_quality false`"
    with pytest.raises(InputError, match=message):
        suite.score(probes, spread(probes), given)


def test_forget_quality_against_other_rows_is_an_error(suite: Tofu) -> None:
    probes = suite.probes(None)
    theirs = reference(suite.score(probes, spread(probes)).rows)
    theirs["forget"] = theirs["forget"][:3]
    with pytest.raises(InputError, match=r"same 4 forget rows.*Found 3, and 'forget/.*/3'"):
        replace(suite, forget_quality=True).score(probes, spread(probes), theirs)


def test_rows_without_perturbed_answers(folder: Path) -> None:
    (folder / "plain.json").write_text(json.dumps({"question": "q", "answer": "a"}))
    with pytest.raises(InputError, match=r"group 'retain' should have perturbed answers"):
        Tofu(path=str(folder), retain_split="plain").probes(None)
