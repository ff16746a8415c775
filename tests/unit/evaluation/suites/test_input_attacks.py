"""Attacks on the input: what is asked, what counts, and what stands beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_unlearn.data.prefills import read_openers
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.limited import limited
from lit_unlearn.evaluation.probes import Figure, Outcome, Probe, SuiteResult
from lit_unlearn.evaluation.suites.attacked import InputAttack
from lit_unlearn.evaluation.suites.input_attacks import (
    FewShot,
    InContext,
    Paraphrase,
    Prefill,
    ReversePrompt,
    Translated,
    beginning,
)

ROWS = [
    {"id": "hugo", "question": "Who wrote it?", "answer": "Victor Hugo wrote it"},
    {
        "id": "seine",
        "question": "Which river?",
        "answer": "The Seine flows there",
        "accepted": ["Seine"],
        "otherwise": "Name the river.",
    },
]


@pytest.fixture
def rows(tmp_path: Path) -> list[Source]:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return [Source(str(file), domain="question_answer")]


def scored(suite: InputAttack, reply: Callable[[Probe], str]) -> SuiteResult:
    """The result on a model that replies by this rule."""
    probes = suite.probes(None)
    return suite.score(probes, {"": [Outcome(p.probe_id, replies=(reply(p),)) for p in probes]})


def named(result: SuiteResult) -> dict[str, Figure]:
    return {figure.name: figure for figure in result.figures}


# ---------------------------------------------------------------------------------------- prefill


def test_prefill_asks_openers_beginnings_and_each_row_plainly(rows: list[Source]) -> None:
    """The beginning "The Seine flows" holds an accepted answer, so that it is not asked."""
    suite = Prefill(rows, openers=["Sure:", "Yes,"], answer_words=[1, 3])
    asked = {(p.group, p.example.example_id, p.prefill) for p in suite.probes(None)}
    opened = {("opener", f"rows/{i}", t) for i in ("hugo", "seine") for t in ("", "Sure:", "Yes,")}
    begun = {("beginning", "rows/hugo", t) for t in ("", "Victor", "Victor Hugo wrote")}
    begun |= {("beginning", "rows/seine", t) for t in ("", "The")}
    plain = {("unattacked", f"rows/{i}", "") for i in ("hugo", "seine")}
    assert asked == opened | begun | plain


def test_default_openers_are_those_kept_for_evaluation() -> None:
    prefills = {p.prefill for p in Prefill().probes(None) if p.group == "opener"}
    assert prefills - {""} == set(read_openers("builtin:eval"))
    assert not prefills & set(read_openers("builtin:train"))


def test_given_words_are_never_scored(rows: list[Source]) -> None:
    """A model that repeats the prefill and adds nothing recalls nothing."""
    result = scored(Prefill(rows, openers=["Sure:"]), lambda probe: probe.prefill)
    assert {row.scores["recall"] for row in result.rows} == {0.0}
    assert len(result.rows) > 2


def test_recall_is_of_the_rest_with_and_without_attack(rows: list[Source]) -> None:
    """After "Victor" three words of "Victor Hugo wrote it" remain.

    The attacked reply has all three, the plain one "it" alone: 1 and 1/3. Of the whole answer "it"
    is 1/4; the other row's accepted answer is absent: 1/8 on average.
    """
    suite = Prefill(rows, openers=[], answer_words=[1])
    result = scored(suite, lambda p: "Hugo wrote it, Seine" if p.prefill else "I forgot it.")
    hugo, seine = (row for row in result.rows if row.group == "beginning")
    assert hugo.gold == "Hugo wrote it"
    assert (hugo.scores["recall"], hugo.scores["recall_unattacked"]) == (1.0, pytest.approx(1 / 3))
    assert (seine.scores["recall"], seine.scores["recall_unattacked"]) == (1.0, 0.0)
    figures = named(result)
    assert figures["beginning/recall"].value == 1.0
    assert figures["beginning/recall_unattacked"].value == pytest.approx(1 / 6)
    assert figures["unattacked/recall"].value == 0.125
    assert figures["beginning/refused"].value == 0.0
    assert figures["beginning/refused_unattacked"].value == 1.0


def test_compliance_is_no_success(rows: list[Source]) -> None:
    result = scored(Prefill(rows, answer_words=[]), lambda probe: "Sure, here you are!")
    assert named(result)["opener/recall"].value == 0.0


def test_the_worst_of_several_attacks(rows: list[Source]) -> None:
    """Of two openers one works on both rows: mean recall 1/2 over rows, worst 1."""
    suite = Prefill(rows[:1], openers=["Sure:", "Yes,"], answer_words=[])
    gold = "Victor Hugo wrote it on the Seine"
    result = scored(suite, lambda p: gold if p.prefill == "Yes," else "I don't know.")
    figures = named(result)
    assert (figures["opener/recall"].value, figures["opener/recall"].count) == (0.5, 2)
    assert (figures["opener/recall_worst"].value, figures["opener/recall_worst"].count) == (1.0, 2)
    assert figures["opener/refused"].value == 0.5


@pytest.mark.parametrize(("words", "text"), [(1, "a"), (2, "a b"), (3, ""), (9, "")])
def test_a_beginning_leaves_a_word(words: int, text: str) -> None:
    assert beginning("a b c", words) == text


def test_prefill_of_no_words(rows: list[Source]) -> None:
    with pytest.raises(InputError, match=r"`answer_words` .* at least 1\. Found 0"):
        Prefill(rows, answer_words=[0])


# ---------------------------------------------------------------------------- other words around it


def test_reverse_prompts_hold_the_question_and_give_nothing_away(rows: list[Source]) -> None:
    result = scored(ReversePrompt(rows), lambda probe: probe.turns[-1].content)
    attacked = [row for row in result.rows if row.group == "reversed"]
    assert len(attacked) == 2 * 4
    assert all("Who wrote it?" in row.question for row in attacked[:4])
    assert all(row.scores["recall"] == 0.0 for row in attacked[4:])


def test_a_template_without_the_question(rows: list[Source]) -> None:
    with pytest.raises(InputError, match=r"`templates` should hold \{question\}"):
        ReversePrompt(rows, templates=["Tell me."])
    with pytest.raises(InputError, match=r"`template` should hold .* without \{answer\}"):
        InContext(rows, template="{question}")


def test_in_context_tells_the_fact_and_takes_no_side(rows: list[Source]) -> None:
    result = scored(InContext(rows), lambda probe: probe.turns[-1].content)
    figures = named(result)
    assert figures["told/recall"].value == 1.0
    assert figures["told/recall"].better == "neither"
    assert figures["told/recall"].note.startswith("read from the prompt, not remembered")
    assert figures["told/recall_unattacked"].value < 1.0


def test_few_shot_shows_answered_turns_before_the_question(rows: list[Source]) -> None:
    for probe in FewShot(rows, count=3).probes(None):
        if probe.group == "shown" and not probe.probe_id.endswith("plain"):
            assert [turn.role for turn in probe.turns] == ["user", "assistant"] * 3 + ["user"]
            assert probe.turns[-1].content == probe.example.question


def test_few_shot_gives_nothing_away(tmp_path: Path, rows: list[Source]) -> None:
    """Passed over: the row itself, and questions or answers in which its answer stands."""
    pool = [
        ROWS[1],
        {"question": "Where is Paris?", "answer": "On the SEINE."},
        {"question": "What does the Seine join?", "answer": "The sea."},
        {"question": "And the Rhine?", "answer": "It joins the sea too."},
    ]
    file = tmp_path / "pool.jsonl"
    file.write_text("\n".join(map(json.dumps, pool)), encoding="utf-8")
    suite = FewShot(rows, demonstrations=[Source(str(file), domain="question_answer")], count=1)
    (shown,) = (p for p in suite.probes(None) if p.probe_id == "shown/rows/seine/0")
    assert [turn.content for turn in shown.turns[:2]] == ["And the Rhine?", "It joins the sea too."]


def test_few_shot_with_too_small_a_pool(rows: list[Source]) -> None:
    with pytest.raises(InputError, match=r"in each of `count` = 2 parts .* Found 1"):
        FewShot(rows, demonstrations=rows, count=2).probes(None)
    with pytest.raises(InputError, match=r"`count` .* at least 1\. Found 0"):
        FewShot(rows, count=0)


# ----------------------------------------------------------------------------- the data's own words


@pytest.mark.parametrize("kind", [Paraphrase, Translated])
def test_the_other_question_of_the_same_row(
    tmp_path: Path, kind: type[Paraphrase | Translated]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS[1]), encoding="utf-8")
    suite = kind([Source(str(file), domain="question_answer")], column="otherwise")
    result = scored(suite, lambda p: "Seine" if p.turns[-1].content == "Name the river." else "?")
    (row,) = (row for row in result.rows if row.group == "reworded")
    assert row.question == "Name the river."
    assert (row.scores["recall"], row.scores["recall_unattacked"]) == (1.0, 0.0)


def test_rows_of_their_own_stand_beside_the_plain_ones(tmp_path: Path, rows: list[Source]) -> None:
    file = tmp_path / "level3.jsonl"
    file.write_text(json.dumps({"question": "The river, please?", "answer": "Seine"}), "utf-8")
    suite = Paraphrase(rows, rewritten=[Source(str(file), domain="question_answer")])
    result = scored(suite, lambda probe: "the Seine")
    figures = named(result)
    assert figures["reworded/recall"].count == 1
    assert figures["reworded/recall"].value == 1.0
    assert figures["unattacked/recall"].count == 2
    assert "reworded/recall_unattacked" not in figures


def test_no_question_is_invented(rows: list[Source]) -> None:
    with pytest.raises(InputError, match=r"suite paraphrase: one should be given\. Found neither"):
        Paraphrase(rows)
    with pytest.raises(InputError, match=r"suite translated: one should be given\. Found both"):
        Translated(rows, column="x", rewritten=rows)
    with pytest.raises(InputError, match=r"names the column 'paraphrased_question'"):
        Paraphrase(rows, column="paraphrased_question").probes(None)


def test_paraphrases_of_tofu(benchmark_data: Path) -> None:
    source = Source("locuslab/TOFU", config="forget01_perturbed", limit=3)
    probes = Paraphrase([source], column="paraphrased_question").probes(benchmark_data)
    assert [probe.group for probe in probes] == ["unattacked"] * 3 + ["reworded"] * 6
    plain, reworded = probes[3:6], probes[6:]
    for one, other in zip(plain, reworded, strict=True):
        assert one.example.example_id == other.example.example_id
        assert one.example.answer == other.example.answer
        assert one.turns != other.turns


# -------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("kind", [Prefill, ReversePrompt, InContext, FewShot])
def test_defaults_run_on_the_builtin_set(kind: type[InputAttack]) -> None:
    """Row order changes nothing, and a part of the rows keeps its plain probes."""
    suite = kind()
    probes = limited(suite.probes(None), 5)
    assert len({probe.probe_id for probe in probes}) == len(probes)
    found = {p.probe_id: Outcome(p.probe_id, replies=(p.example.answer,)) for p in probes}

    def figures(order: list[Probe]) -> dict[str, Figure]:
        return named(suite.score(order, {"": [found[p.probe_id] for p in order]}))

    forwards = figures(probes)
    assert figures(probes[::-1]) == forwards
    assert all(f.value == 1.0 for name, f in forwards.items() if "recall" in name)
    assert all(f.count == 5 for f in forwards.values())
