"""Tests of the suites that change the weights, `Quantised`, `Pruned` and `Relearn`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from lit_unlearn.attacks.quantisation import quantised_copy
from lit_unlearn.attacks.relearning import FineTuning
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.asking import ask
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Subject, Suite, SuiteResult
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.pruned import Pruned
from lit_unlearn.evaluation.suites.quantised import Quantised
from lit_unlearn.evaluation.suites.relearned import Relearn
from lit_unlearn.models.tiny import tiny_tokenizer

ROWS = [Source("builtin:forget", split="eval", limit=4)]
RETAIN = [Source("builtin:general", split="eval", limit=2)]
FAST = FineTuning(learning_rate=1e-2, batch_size=2)
RELEARN = Relearn(ROWS, others={"retain": RETAIN}, steps=[4, 1], fine_tuning=FAST, max_new_tokens=3)


@pytest.fixture
def subject(tiny_model: PreTrainedModel) -> Subject:
    tokenizer = tiny_tokenizer()
    return Subject("tiny", tiny_model.eval(), tokenizer, Encoder(tokenizer), "tiny")


def run(suite: Suite, subject: Subject, folder: Path) -> SuiteResult:
    return run_suite(suite, subject, Store(folder))


def values(result: SuiteResult) -> dict[str, float]:
    return {figure.name: figure.value for figure in result.figures}


def test_quantised_asks_the_rounded_copies(subject: Subject, tmp_path: Path) -> None:
    """The NLL under the variant is that of a copy made by hand; the subject keeps its weights."""
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    suite = Quantised(ROWS, bits=[8, 2], group_size=None, max_new_tokens=3)
    found = values(run(suite, subject, tmp_path))
    copy = quantised_copy(subject.model, 2)
    other = Subject("copy", copy, subject.tokenizer, subject.encoder, "copy")
    nll = [
        -sum(o.forced["answer"].log_probs) / len(o.forced["answer"].log_probs)
        for o in ask(other, suite.probes(None))
    ]
    assert found["int2/answer_nll"] == pytest.approx(sum(nll) / len(nll), abs=1e-5)
    nearer = abs(found["int8/answer_nll"] - found["unattacked/answer_nll"])
    assert 0 < nearer < abs(found["int2/answer_nll"] - found["unattacked/answer_nll"])
    assert all(torch.equal(v, before[n]) for n, v in subject.model.state_dict().items())


def test_relearn_gives_a_curve_per_set_of_rows(subject: Subject, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    found = values(run(RELEARN, subject, tmp_path))
    groups = {name.rpartition("/")[0] for name in found if name != "recall_worst"}
    assert groups == {"unattacked", "forget/1", "forget/4", "retain/1", "retain/4"}
    # English after a random start: answers of held-out rows become likelier too
    assert found["forget/4/answer_nll"] < found["forget/1/answer_nll"]
    assert found["forget/1/answer_nll"] < found["unattacked/answer_nll"]
    assert found["retain/4/answer_nll"] != found["forget/4/answer_nll"]
    assert all(torch.equal(v, before[n]) for n, v in subject.model.state_dict().items())


def test_relearn_probes_no_row_that_it_learns_from(subject: Subject) -> None:
    held_out = {probe.example.example_id for probe in RELEARN.probes(None)}
    every = {probe.example.example_id for probe in Quantised(ROWS).probes(None)}
    keys = {v.name: v.key for v in RELEARN.variants(subject, None)}
    assert len(held_out) == 2
    for row in every:
        assert (f"'{row}'" in keys["relearn/forget/1"]) == (row not in held_out)


def test_relearn_variants_come_in_steps_and_give_up_other_copies(subject: Subject) -> None:
    """Later steps go on from earlier ones (the same copy), another set of rows makes its own."""
    variants = {v.name: v for v in RELEARN.variants(subject, None)}
    assert list(variants) == [
        "",
        "relearn/forget/1",
        "relearn/forget/4",
        "relearn/retain/1",
        "relearn/retain/4",
    ]
    first = variants["relearn/forget/1"].make()
    assert variants["relearn/forget/4"].make() is first
    state = {name: value.clone() for name, value in first.state_dict().items()}
    assert variants["relearn/retain/1"].make() is not first
    again = variants["relearn/forget/4"].make()
    assert again is not first
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_a_variants_key_holds_all_that_decides_it(subject: Subject) -> None:
    """Another learning rate, split, or set of rows is another key; the reply's length is not."""

    def key(**changes: object) -> str:
        settings = {"sources": ROWS, "others": {}, "steps": [1], "fine_tuning": FAST} | changes
        return Relearn(**settings).variants(subject, None)[1].key  # type: ignore[arg-type]

    others = [
        key(fine_tuning=FineTuning(1e-3, 2)),
        key(seed=5),
        key(attack_share=0.7),
        key(sources=RETAIN),
    ]
    assert key() not in others
    assert len(set(others)) == len(others)
    assert key(max_new_tokens=9) == key()


def test_the_order_of_rates_and_steps_changes_nothing(subject: Subject) -> None:
    """The grid is sorted, so that each copy is made once and all names and keys are the same."""
    first = replace(RELEARN, rates=[1e-2, 1e-3], steps=[2, 1]).variants(subject, None)
    other = replace(RELEARN, rates=[1e-3, 1e-2, 1e-3], steps=[1, 2]).variants(subject, None)
    assert [(v.name, v.key) for v in first] == [(v.name, v.key) for v in other]
    grid = [f"relearn/forget/{rate}/{step}" for rate in ("0.001", "0.01") for step in (1, 2)]
    assert [v.name for v in first][1:5] == grid
    alone = replace(RELEARN, rates=[1e-3], steps=[2]).variants(subject, None)[1]
    made, again = first[2].make().state_dict(), alone.make().state_dict()
    assert alone.name == "relearn/forget/2"
    assert all(torch.equal(value, made[name]) for name, value in again.items())


def test_no_set_of_rows_holds_a_question_that_is_asked(subject: Subject, tmp_path: Path) -> None:
    """A question that stands twice in the data, or in another set as well, is not learnt from."""
    file = tmp_path / "rows.csv"
    questions = [f"Question {number % 6}?,Answer {number}" for number in range(8)]
    file.write_text("\n".join(["question,answer", *questions]), "utf-8")
    sources = [Source(str(file), domain="question_answer")]
    suite = Relearn(sources, others={"same": sources}, steps=[1], fine_tuning=FAST)
    asked = {probe.turns[-1].content for probe in suite.probes(None)}
    learnt = {variant.name: variant.key for variant in suite.variants(subject, None)}
    assert asked
    for name in ("relearn/forget/1", "relearn/same/1"):
        assert "Example(" in learnt[name]
        assert not any(repr(question) in learnt[name] for question in asked)


def test_the_worst_change_is_named(subject: Subject, tmp_path: Path) -> None:
    """Nothing is pruned at a share of 0, so that figures are those of the unchanged model."""
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    result = run(Pruned(ROWS, shares=[0.0, 0.9], max_new_tokens=3), subject, tmp_path)
    found = values(result)
    for score in ("recall", "answer_nll"):
        assert found[f"pruned0/{score}"] == found[f"unattacked/{score}"]
    assert found["pruned0.9/answer_nll"] != found["unattacked/answer_nll"]
    worst = result.figures[-1]
    assert worst.name == "recall_worst"
    assert worst.value == max(found["pruned0/recall"], found["pruned0.9/recall"])
    assert worst.note.startswith(("pruned0;", "pruned0.9;"))
    assert all(torch.equal(v, before[n]) for n, v in subject.model.state_dict().items())


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"`steps` should list numbers of at least 1.*\[0, 5\]"):
        Relearn(steps=[0, 5])
    with pytest.raises(InputError, match=r"`rates` should be at least 0. Found -1"):
        Relearn(rates=[1e-5, -1])
    with pytest.raises(InputError, match=r"`share` should be at least 0 and at most 1. Found 3"):
        Pruned(shares=[3])
    with pytest.raises(InputError, match="not use the name 'forget'"):
        Relearn(others={"forget": RETAIN})
    with pytest.raises(InputError, match=r"`bits`.*at least 2 and at most 16"):
        Quantised(bits=[1])
    with pytest.raises(InputError, match="`attack_share`"):
        Relearn(ROWS, attack_share=1.0).probes(None)
