"""The judge: its verdict is the likelier of two words, and is kept with the reply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation import judge as judge_module
from lit_unlearn.evaluation.judge import ASKED, NO, YES, Judge, declines
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Outcome, Subject
from lit_unlearn.evaluation.subjects import Loading, load_subject
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.boundary import Boundary
from tests.unit.evaluation.suites.made import forced

ROWS = [Source("builtin:neighbor", split="eval", limit=3)]


@pytest.fixture
def subject() -> Subject:
    return load_subject("random-tiny", Loading(device="cpu"))


def test_verdicts_are_the_likelihoods_of_yes_and_no(subject: Subject) -> None:
    """Recomputed by one forward pass over the question in the chat template."""
    pairs = [("Who {reply}?", "I will not say."), ("Where?", " ")]
    verdicts = Judge("random-tiny", device="cpu").verdicts(pairs)
    for (question, reply), verdict in zip(pairs, verdicts, strict=True):
        asked = ASKED.format(question=question, reply=reply.strip() or "(nothing)")
        turns = [{"role": "user", "content": asked}]
        text = subject.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        start = len(subject.tokenizer(text)["input_ids"])
        for name, word in ((YES, "Yes"), (NO, "No")):
            ids = torch.tensor([subject.tokenizer(f"{text}{word}")["input_ids"]])
            logits = subject.model(input_ids=ids).logits[0].detach().log_softmax(-1)
            wanted = [float(logits[i - 1, ids[0, i]]) for i in range(start, ids.shape[1])]
            assert verdict[name].log_probs[:-1] == pytest.approx(wanted, abs=1e-4)


def test_the_likelier_word_decides() -> None:
    """The end of the turn, the last token, does not count."""
    assert declines({YES: forced(-1.0, -9.0), NO: forced(-2.0, -0.1)})
    assert not declines({YES: forced(-2.0, -0.1), NO: forced(-1.0, -9.0)})
    assert not declines({YES: forced(-1.0, -1.0), NO: forced(-1.0, -1.0)})


def test_figures_beside_those_of_the_matcher() -> None:
    """Three replies: both see a refusal, one does (the judge), none does."""
    suite = Boundary(neighbor=ROWS, general=[])
    probes = suite.probes(None)
    yes, no = forced(-0.1, 0.0), forced(-3.0, 0.0)
    said = [("I don't know.", yes, no), ("Hitler was wrong.", yes, no), ("Paris.", no, yes)]
    outcomes = [
        Outcome(probe.probe_id, {YES: first, NO: second}, (reply,))
        for probe, (reply, first, second) in zip(probes, said, strict=True)
    ]
    figures = {f.name: f for f in suite.score(probes, {"": outcomes}).figures}
    assert figures["neighbor/refused"].value == pytest.approx(1 / 3)
    assert figures["neighbor/refused_judge"].value == pytest.approx(2 / 3)
    assert figures["neighbor/judge_agrees"].value == pytest.approx(2 / 3)
    assert figures["neighbor/refused_judge"].better == "lower"


def test_verdicts_are_kept(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies are those of the usual engine; a second run asks neither model."""
    suite = Boundary(ROWS, [], max_new_tokens=2, judge=Judge("random-tiny", device="cpu"))
    first = run_suite(suite, subject, Store(tmp_path))
    usual = run_suite(replace(suite, judge=None), subject, Store(tmp_path))
    assert [row.reply for row in first.rows] == [row.reply for row in usual.rows]
    assert set(usual.rows[0].scores) == {"refused", "correct"}
    monkeypatch.setattr(judge_module, "force", None)
    again = Boundary(ROWS, [], max_new_tokens=2, judge=Judge("random-tiny", device="cpu"))
    assert run_suite(again, subject, Store(tmp_path)) == first
    assert Judge("random-tiny", "bfloat16").key() != Judge("random-tiny").key()


def test_a_judge_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"Parameter `judge.path` = './nowhere'"):
        Judge("./nowhere").key()
