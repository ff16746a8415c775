"""MUSE on a few hand-made rows and hand-made outcomes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Outcome, Probe, Row
from lit_unlearn.evaluation.suites.muse import Muse
from lit_unlearn.evaluation.suites.reciting import first_tokens
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.metrics.functional.statistics import auc
from tests.unit.evaluation.suites.made import Outcomes, by_name, forced, outcomes, shuffled


def write(file: Path, rows: Sequence[dict[str, Any]]) -> Source:
    file.write_text("\n".join(map(json.dumps, rows)))
    return Source(str(file))


@pytest.fixture
def suite(tmp_path: Path) -> Muse:
    for split in ("forget_qa", "retain_qa", "forget_qa_icl", "retain_qa_icl"):
        rows = [{"question": f"{split} {i}?", "answer": f"gold walks {i}"} for i in range(3)]
        write(tmp_path / f"knowmem_{split}.json", rows)
    return Muse(path=str(tmp_path), shots=2)


@pytest.fixture
def whole(suite: Muse, tmp_path: Path) -> Muse:
    """With texts for the other two measures."""
    passages = [{"prompt": f"Once upon {i} ", "gt": f"a time {i}"} for i in range(2)]
    texts = {
        name: write(tmp_path / f"{name}.jsonl", [{"text": f"{name} text {i}"} for i in range(4)])
        for name in ("members", "holdout")
    }
    return replace(suite, verbatim=write(tmp_path / "verbatim.jsonl", passages), **texts)


def test_the_prompt_is_muses(suite: Muse) -> None:
    probe = suite.probes(None)[0]
    assert probe.plain
    assert probe.turns[-1].content == (
        "Question: forget_qa_icl 0?\nAnswer: gold walks 0\n\n"
        "Question: forget_qa_icl 1?\nAnswer: gold walks 1\n\n"
        "Question: forget_qa 0?\nAnswer: "
    )
    assert probe.generation is not None
    assert probe.generation.max_new_tokens == 32
    assert probe.generation.stops == ("\n\n", "\nQuestion", "Question:")


def test_the_prompt_as_a_conversation(suite: Muse) -> None:
    probe = replace(suite, form="chat", shots=1).probes(None)[3]
    assert [(turn.role, turn.content) for turn in probe.turns] == [
        ("user", "retain_qa_icl 0?"),
        ("assistant", "gold walks 0"),
        ("user", "retain_qa 0?"),
    ]
    assert not probe.plain
    alone = replace(suite, shots=0).probes(None)[0]
    assert alone.turns[-1].content == "Question: forget_qa 0?\nAnswer: "


def test_knowledge_by_hand(suite: Muse) -> None:
    """Gold "gold walks 0", reply "gold walking 0 yes": 2 of 3 and 2 of 4 words, F1 = 4/7.

    With stems walks = walking: 3 of 3 and 3 of 4, F1 = 6/7.
    """
    probes = suite.probes(None)
    found = outcomes(probes, lambda p: p.example.answer.replace("walks", "walking") + " yes")
    figures = by_name(suite.score(probes, found))
    assert figures["forget/rouge_l_f1"].value == pytest.approx(4 / 7)
    assert (figures["forget/rouge_l_f1"].better, figures["retain/rouge_l_f1"].better) == (
        "lower",
        "higher",
    )
    stemmed = by_name(replace(suite, stemmer=True).score(probes, found))
    assert stemmed["retain/rouge_l_f1"].value == pytest.approx(6 / 7)


def test_what_has_no_texts_is_said_to_be_unmeasured(suite: Muse) -> None:
    probes = suite.probes(None)
    figures = by_name(suite.score(probes, outcomes(probes)))
    for name, parameter in (
        ("verbatim/rouge_l_f1", "`verbatim`"),
        ("privacy_leakage", "`members` and `holdout`"),
    ):
        assert math.isnan(figures[name].value)
        assert (figures[name].count, figures[name].low) == (0, None)
        assert figures[name].note.startswith(f"not measured: {parameter}")


def test_verbatim_probes_are_plain_text_as_it_is(whole: Muse) -> None:
    probe = next(p for p in whole.probes(None) if p.group == "verbatim")
    assert (probe.plain, probe.turns[-1].content) == (True, "Once upon 0 ")
    assert probe.example.answer == "a time 0"
    assert probe.generation is not None
    assert probe.generation.max_new_tokens == 128


def test_the_reference_is_cut_to_tokens(
    whole: Muse, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The byte tokenizer has one token per letter here."""
    assert first_tokens("a time ago", tiny_tokenizer, 6) == "a time"
    cut = replace(whole, tokenizer="random-tiny", verbatim_tokens=3)
    probe = next(p for p in cut.probes(None) if p.group == "verbatim")
    assert probe.example.answer == "a t"


def test_passages_without_continuation(whole: Muse, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jsonl", [{"prompt": "Once", "gt": " "}])
    with pytest.raises(InputError, match=r"texts `prompt` and `gt`.*' ' as 'gt'"):
        replace(whole, verbatim=bad).probes(None)


# -------------------------------------------------------------------------------- privacy leakage


def thought(
    probes: Sequence[Probe], members: Sequence[float], holdout: Sequence[float]
) -> Outcomes:
    """The texts' log-probabilities per token, the end of turn apart (-99)."""
    values = iter((*members, *holdout))
    return {
        "": [
            Outcome(
                probe.probe_id,
                {name: forced(next(values), -99.0) for name in probe.candidates},
                ("x",) if probe.generation else (),
            )
            for probe in probes
        ]
    }


def rows_of(suite: Muse, probes: Sequence[Probe], found: Outcomes) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in suite.score(probes, found).rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def test_privacy_leakage_by_hand(whole: Muse) -> None:
    """Members -1, -1, -2, -5, holdout -3, -3, -4, -6: 13 of 16 pairs in order, AUC 13/16.

    The retain model: -1, -3, -2, -4 and -1.5, -3.5, -2.5, -4.5: 10 of 16. Leakage
    100 (10/16 - 13/16) / (6/16) = -50.
    """
    probes = whole.probes(None)
    own = thought(probes, [-1, -1, -2, -5], [-3, -3, -4, -6])
    theirs = thought(probes, [-1, -3, -2, -4], [-1.5, -3.5, -2.5, -4.5])
    figures = by_name(whole.score(probes, own, rows_of(whole, probes, theirs)))
    assert figures["members/auc_min_k"].value == 13 / 16
    leak = figures["privacy_leakage"]
    assert leak.value == pytest.approx(-50)
    assert leak.low is not None
    assert leak.high is not None
    assert leak.low <= leak.value <= leak.high
    assert leak.count == 8
    given = by_name(replace(whole, retain_auc=10 / 16).score(probes, own))
    assert given["privacy_leakage"].value == pytest.approx(-50)
    assert auc([1, 1, 2, 5], [3, 3, 4, 6]) == 13 / 16


def test_the_retain_model_leaks_nothing(whole: Muse) -> None:
    probes = whole.probes(None)
    found = thought(probes, [-1, -3, -2, -4], [-2, -3, -5, -6])
    figures = by_name(whole.score(probes, found, rows_of(whole, probes, found)))
    assert figures["privacy_leakage"].value == 0


def test_leakage_without_a_reference_says_so(whole: Muse) -> None:
    probes = whole.probes(None)
    figures = by_name(whole.score(probes, outcomes(probes)))
    assert math.isnan(figures["privacy_leakage"].value)
    assert "`--reference`" in figures["privacy_leakage"].note
    assert figures["members/auc_min_k"].value == 0.5


def test_a_reference_of_other_texts_is_an_error(whole: Muse) -> None:
    probes = whole.probes(None)
    theirs = rows_of(whole, probes, outcomes(probes))
    theirs["holdout"] = theirs["holdout"][:2]
    with pytest.raises(InputError, match=r"same 4 texts in 'holdout'. Found 2, and 'holdout/"):
        whole.score(probes, outcomes(probes), theirs)


def test_row_order_changes_nothing(whole: Muse) -> None:
    probes = whole.probes(None)
    found = thought(probes, [-1, -1, -2, -5], [-3, -3, -4, -6])[""]
    suite = replace(whole, retain_auc=0.6)
    assert by_name(suite.score(shuffled(probes), {"": shuffled(found)})) == by_name(
        suite.score(probes, {"": found})
    )


def test_bad_settings(suite: Muse, tmp_path: Path) -> None:
    texts = write(tmp_path / "texts.jsonl", [{"passage": "x"}])
    with pytest.raises(InputError, match=r"`members` and `holdout`.*both be given, or neither"):
        replace(suite, members=texts)
    with pytest.raises(InputError, match=r"column `text`. Found passage"):
        replace(suite, members=texts, holdout=texts).probes(None)


@pytest.mark.parametrize("corpus", ["News", "Books"])
def test_real_questions(benchmark_data: Path, corpus: str) -> None:
    probes = Muse(corpus=corpus, retain=Selection(every=10)).probes(benchmark_data)
    assert len(probes) == 110
    assert all(probe.turns[-1].content.count("Question: ") == 11 for probe in probes)
