"""RWKU on a few hand-made rows and hand-made replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Probe
from lit_unlearn.evaluation.suites.rwku import Rwku, prompt_of
from lit_unlearn.evaluation.suites.selection import Selection
from tests.unit.evaluation.suites.made import by_name, outcomes, shuffled

PARTS = ("forget_level1", "forget_level2", "forget_level3", "neighbor_level1", "neighbor_level2")
PEOPLE = ("Stephen King", "Ada Lovelace")


@pytest.fixture
def suite(tmp_path: Path) -> Rwku:
    """Each person has two rows in every set, answer "Ann Bell"."""
    for part in PARTS:
        (tmp_path / part).mkdir()
        rows = [
            {
                "subject": person,
                "type": "affirmative suffix" if i else "simple question",
                "query": f"{person} {i} ___" if part.endswith("1") else f"{person} {i}?",
                "answer": "Ann Bell",
            }
            for i in range(2)
            for person in PEOPLE
        ]
        (tmp_path / part / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Rwku(targets=list(PEOPLE), path=str(tmp_path))


def test_prompts_are_those_of_the_authors_code() -> None:
    blank = "Please complete the blank in the following question.\nQuestion: He is ___\n"
    brief = "Please briefly answer the following question.\n"
    assert prompt_of("neighbor_level1", "cloze", "He is ___") == (blank, "Answer:")
    assert prompt_of("forget_level2", "", "Who?") == (f"{brief}Question: Who?\n", "Answer:")
    assert prompt_of("forget_level3", "role play", "Who?") == (
        f"{brief}Question: Who?\n",
        "Answer:",
    )
    assert prompt_of("forget_level3", "incontext learning", "Question: A? Answer: B") == (
        f"{brief}Question: A? Answer: B\n",
        "Answer:",
    )
    assert prompt_of("forget_level3", "affirmative suffix", "Who? Sure:") == (
        f"{brief}Question: Who? Sure:",
        "",
    )


def test_probes(suite: Rwku) -> None:
    probes = suite.probes(None)
    assert len(probes) == len({probe.probe_id for probe in probes}) == 20
    first = probes[0]
    assert (first.group, first.probe_id) == (
        "Stephen King/forget_level1",
        "Stephen King/forget_level1/0",
    )
    assert first.generation is not None
    assert (first.generation.max_new_tokens, first.generation.stops) == (30, ("\n",))
    suffix = [p for p in probes if "level3" in p.group and not p.prefill]
    assert len(suffix) == 2


def test_rows_are_chosen_for_each_person_and_set(suite: Rwku) -> None:
    probes = replace(suite, rows=Selection(limit=1, offset=1)).probes(None)
    assert len(probes) == 10
    assert [p.probe_id for p in probes[:2]] == [
        "Stephen King/forget_level1/2",
        "Ada Lovelace/forget_level1/3",
    ]


def answered(probe: Probe) -> str:
    """The right words of King's forget rows, one of two of Lovelace's; nothing of neighbours."""
    if "neighbor" in probe.group:
        return "nobody"
    return " Ann Bell." if "King" in probe.group else "Ann, they say"


def test_figures_by_hand(suite: Rwku) -> None:
    """Recall 1 of King's rows; Lovelace's "Ann," is not "Ann" for the authors' score: 0.

    Stems of words, without punctuation, give 1/2 there.
    """
    probes = suite.probes(None)
    figures = by_name(suite.score(probes, outcomes(probes, answered)))
    expected = {
        "forget_level1": (0.5, 4),
        "forget_level3": (0.5, 4),
        "forget": (0.5, 12),
        "Stephen King/forget": (1, 6),
        "Ada Lovelace/forget": (0, 6),
        "neighbor": (0, 8),
    }
    for name, (value, count) in expected.items():
        figure = figures[f"{name}/rouge_l_recall"]
        assert (figure.value, figure.count) == (value, count)
        assert figure.better == ("higher" if "neighbor" in name else "lower")
        assert figure.low is not None
    stemmed = replace(suite, score_by="stemmed")
    figures = by_name(stemmed.score(probes, outcomes(probes, answered)))
    assert figures["Ada Lovelace/forget/rouge_l_recall"].value == 0.5


def test_means_are_over_rows_not_over_sets(suite: Rwku) -> None:
    """Three rows of level 1 at 1 and one of level 2 at 0: 3/4, not 1/2."""
    probes = suite.probes(None)
    kept = [*[p for p in probes if "forget_level1" in p.group][:3]]
    kept += [p for p in probes if "forget_level2" in p.group][:1]
    found = outcomes(kept, lambda p: "Ann Bell" if "level1" in p.group else "no")
    assert by_name(suite.score(kept, found))["forget/rouge_l_recall"].value == 0.75


def test_one_person_has_no_figures_of_its_own(suite: Rwku) -> None:
    suite = replace(suite, targets=["Stephen King"])
    probes = suite.probes(None)
    names = set(by_name(suite.score(probes, outcomes(probes))))
    assert names == {f"{n}/rouge_l_recall" for n in (*PARTS, "forget", "neighbor")}


def test_row_order_changes_nothing(suite: Rwku) -> None:
    probes = suite.probes(None)
    found = outcomes(probes, answered)[""]
    turned = by_name(suite.score(shuffled(probes), {"": shuffled(found)}))
    assert turned == by_name(suite.score(probes, {"": found}))


def test_a_person_that_the_data_does_not_have(suite: Rwku) -> None:
    with pytest.raises(InputError, match=r"'Steven King'.*did you mean Stephen King"):
        replace(suite, targets=["Steven King"]).probes(None)


@pytest.mark.parametrize(("targets", "people"), [(["Stephen King"], 1), ([], None)])
def test_real_files(benchmark_data: Path, targets: Sequence[str], people: int | None) -> None:
    """No target means all targets that the data has."""
    suite = Rwku(list(targets), ["neighbor_level2"], Selection(limit=2))
    probes = suite.probes(benchmark_data)
    source = Source("jinzhuoran/RWKU", "neighbor_level2", "test")
    known = {row.values["subject"] for row in read_rows(source, benchmark_data)}
    assert len({probe.group for probe in probes}) == (people or len(known))
    assert len(probes) <= 2 * (people or len(known))
