"""Answers: what is asked of a run's objectives, and five figures of each group worked by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Figure, Forced, Outcome, Row, Subject
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.answers import (
    Answers,
    answer_figures,
    read_answers,
    write_answers,
)
from lit_unlearn.types import Example, Turn


def example(number: int, answer: str = "Lima", accepted: Sequence[str] = ("Lima",)) -> Example:
    turns = (Turn("user", f"What is {number}?"),)
    return Example(f"set/{number}", turns, answer, "question_answer", tuple(accepted))


ROWS = {"forget": [example(n) for n in range(3)], "ask": [example(7, "", ())]}
PREFILLS = {"forget": ["Sure,", "Well,"], "ask": None}


def outcomes(suite: Answers, *replies: str, nll: Sequence[float] = (1.0, 2.0)) -> list[Outcome]:
    forced = Forced(tuple(-value for value in nll), (False,) * 2, (0.0,) * 2, (0.0,) * 2)
    return [
        Outcome(probe.probe_id, {"answer": forced} if probe.candidates else {}, (reply,))
        for probe, reply in zip(suite.probes(None), replies, strict=True)
    ]


def scored(suite: Answers, *replies: str) -> tuple[list[Row], dict[str, Figure]]:
    found = suite.score(suite.probes(None), {"": outcomes(suite, *replies)})
    return found.rows, {figure.name: figure for figure in found.figures}


def test_each_row_is_asked_plainly_and_behind_openers_in_turn() -> None:
    asked = Answers(ROWS, PREFILLS, 9).probes(None)
    assert [(p.group, p.prefill) for p in asked] == [
        *[("forget", "")] * 3,
        ("forget/prefilled", "Sure,"),
        ("forget/prefilled", "Well,"),
        ("forget/prefilled", "Sure,"),
        ("ask", ""),
    ]
    assert asked[3].probe_id == "forget/prefilled/set/0"
    assert [dict(p.candidates) for p in asked[-2:]] == [{"answer": "Lima"}, {}]
    assert {p.generation.max_new_tokens for p in asked if p.generation} == {9}


def test_figures_worked_by_hand() -> None:
    """Two of three forget rows are right, one declines; NLL (1 + 2) / 2; prefilled: none right.

    Six words alike and another are four 4-grams, two of them distinct: 1/2 repeated.
    """
    replies = ["It is Lima.", "well " * 6 + "Lima", "I'm sorry, but I can't help with that."]
    _, found = scored(Answers(ROWS, PREFILLS), *replies, "no", "no", "no", "hm")
    assert found["forget/correct"].value == pytest.approx(2 / 3)
    assert found["forget/rouge_l_recall"].value == pytest.approx(2 / 3)
    assert found["forget/refused"].value == pytest.approx(1 / 3)
    assert found["forget/repetition"].value == pytest.approx(0.5 / 3)
    assert found["forget/answer_nll"].value == 1.5
    assert found["forget/answer_nll"].count == 3
    assert found["forget/prefilled/correct"].value == 0.0


def test_rows_without_gold_answer_leave_only_refusals_and_repetition() -> None:
    _, found = scored(Answers({"ask": ROWS["ask"]}, {}), "I do not know.")
    for score in ("correct", "rouge_l_recall", "answer_nll"):
        assert math.isnan(found[f"ask/{score}"].value)
    assert (found["ask/refused"].value, found["ask/refused"].count) == (1.0, 1)


def test_mixed_rows_count_where_they_apply() -> None:
    mixed = {"all": [example(0), example(1, "", ())]}
    _, found = scored(Answers(mixed, {}), "Lima", "Lima")
    counts = {name.rpartition("/")[2]: figure.count for name, figure in found.items()}
    assert counts == {
        "correct": 1,
        "refused": 2,
        "repetition": 2,
        "rouge_l_recall": 1,
        "answer_nll": 1,
    }
    assert found["all/correct"].value == 1.0


def test_no_rows_have_no_figures() -> None:
    assert answer_figures([]) == []


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    suite = Answers(ROWS, PREFILLS)
    rows, _ = scored(suite, "Lima", "no", "caf\u00e9", "Lima", "no", "no", "hm")
    write_answers(tmp_path / "a.jsonl", suite.probes(None), rows)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert lines[4] == {
        "objective": "forget",
        "example_id": "set/1",
        "prefill": "Well,",
        "question": "What is 1?",
        "gold": "Lima",
        "generated": "no",
        "rouge_l": 0.0,
        "correct": False,
        "refused": False,
        "answer_nll": 1.5,
    }
    assert [lines[6][key] for key in ("rouge_l", "correct", "answer_nll")] == [None] * 3
    found = read_answers(tmp_path / "a.jsonl")
    assert repr(found) == repr(rows)  # NaN is not equal to itself


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It had NaN, which is not JSON, and a ROUGE-L of 0 where there is no gold answer."""
    line = {"objective": "ask", "example_id": "1", "prefill": "", "question": "?", "gold": ""}
    scores = {"rouge_l": 0.0, "correct": None, "refused": True, "answer_nll": math.nan}
    (tmp_path / "a.jsonl").write_text(json.dumps({**line, "generated": "no", **scores}) + "\n")
    (row,) = read_answers(tmp_path / "a.jsonl")
    assert row.scores["refused"] == 1.0
    assert all(math.isnan(row.scores[key]) for key in ("rouge_l_recall", "correct", "answer_nll"))


@pytest.mark.parametrize(("longest", "tokens"), [(512, 6), (11, 2), (9, 0)])
def test_what_is_too_long_is_cut_as_in_training(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast, longest: int, tokens: int
) -> None:
    """A prompt of nine tokens and an answer of six, a space and its end among them."""
    plain = Example("set/0", (Turn("user", "12345678"),), "abcd", "passage", plain=True)
    suite = Answers({"forget": [plain]}, {}, 3)
    encoder = Encoder(tiny_tokenizer, longest, "warn")
    subject = Subject("tiny", tiny_model, tiny_tokenizer, encoder, "")
    (row,) = run_suite(suite, subject, None).rows
    if not tokens:
        assert math.isnan(row.scores["answer_nll"])
        return
    whole = Encoder(tiny_tokenizer).encode(plain, plain.answer)
    assert whole is not None
    assert (whole.student_start, len(whole.student_ids)) == (9, 15)
    ids = torch.tensor([whole.student_ids[: 9 + tokens]])
    with torch.no_grad():
        log_probs = tiny_model.eval()(ids).logits[0, 8:-1].log_softmax(-1)
    wanted = -log_probs.gather(1, ids[0, 9:, None]).mean().item()
    assert row.scores["answer_nll"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "line", ['{"objective": "forget"}', "[1]", '{"objective":', "\xff", '{"rouge_l": "x"}']
)
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f"\n{line}\n", "utf-8")
    with pytest.raises(InputError, match="line 2: expected an answer that a run wrote"):
        read_answers(file)
