"""Tests of the suites that optimise the input, `SoftPrompt` and `Gcg`, through the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from lit_unlearn.attacks.gcg import Search
from lit_unlearn.attacks.inputs import embedding_table
from lit_unlearn.attacks.soft_prompt import Descent
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.asking import ask
from lit_unlearn.evaluation.outcome_store import Store, content_key
from lit_unlearn.evaluation.probes import Subject, Suite, SuiteResult
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.optimised_input import OptimisedInput
from lit_unlearn.evaluation.suites.optimised_suffix import Gcg, inserted_text, start_ids
from lit_unlearn.evaluation.suites.optimised_vectors import SoftPrompt
from lit_unlearn.models.tiny import tiny_tokenizer

ROWS = [Source("builtin:forget", split="eval", limit=4)]
REACHING = Descent(length=8, steps=40, step_size=1.0)
"""Enough for a target of one token."""


@pytest.fixture
def subject(tiny_model: PreTrainedModel) -> Subject:
    tokenizer = tiny_tokenizer()
    return Subject("tiny", tiny_model.eval(), tokenizer, Encoder(tokenizer), "tiny")


def soft_prompt(steps: int = 1, **settings: object) -> SoftPrompt:
    descent = Descent(length=2, steps=steps, step_size=0.3)
    return SoftPrompt(ROWS, max_new_tokens=6, descent=descent, **settings)  # type: ignore[arg-type]


def gcg(**settings: object) -> Gcg:
    return Gcg(ROWS, max_new_tokens=6, start=" !!", search=Search(2, 4, 8), **settings)  # type: ignore[arg-type]


def run(suite: Suite, subject: Subject, folder: Path, batch_size: int = 16) -> SuiteResult:
    return run_suite(suite, subject, Store(folder), batch_size=batch_size)


@pytest.mark.parametrize(
    ("suite", "groups"),
    [
        (soft_prompt(upper_bound=True), {"unattacked", "affirmative", "gold_target"}),
        (soft_prompt(), {"unattacked", "affirmative"}),
        (gcg(), {"unattacked", "gcg"}),
    ],
    ids=["soft_prompt_with_bound", "soft_prompt", "gcg"],
)
def test_the_same_rows_with_and_without(
    subject: Subject, tmp_path: Path, suite: OptimisedInput, groups: set[str]
) -> None:
    """Every group has the held-out rows; the un-attacked replies are the usual engine's."""
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    result = run(suite, subject, tmp_path)
    rows = {g: [r for r in result.rows if r.group == g] for g in groups}
    assert {row.group for row in result.rows} == groups
    questions = {group: [row.question for row in found] for group, found in rows.items()}
    assert len({tuple(found) for found in questions.values()}) == 1
    usual = ask(subject, [p for p in suite.probes(None) if p.group == "unattacked"])
    assert [row.reply for row in rows["unattacked"]] == [o.replies[0] for o in usual]
    for group in groups - {"unattacked"}:
        names = {f.name for f in result.figures if f.name.startswith(group)}
        assert names == {f"{group}/{score}" for score in ("recall", "refused", "recall_gain")}
    assert all(torch.equal(v, before[n]) for n, v in subject.model.state_dict().items())


@pytest.mark.parametrize("suite", [soft_prompt(upper_bound=True), gcg()], ids=["soft", "gcg"])
def test_the_attack_does_not_depend_on_how_the_engine_shares_out_its_probes(
    subject: Subject, tmp_path: Path, suite: OptimisedInput
) -> None:
    together, apart = (run(suite, subject, tmp_path / str(n), n) for n in (16, 1))
    assert together == apart


def test_the_upper_bound_is_reached_and_says_what_it_is(subject: Subject, tmp_path: Path) -> None:
    """With vectors of its own, even a random model gives a gold answer of one token."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a?", "answer": "z"}\n{"question": "b?", "answer": "z"}\n')
    suite = SoftPrompt(
        [Source(str(file), domain="question_answer")],
        max_new_tokens=1,
        descent=REACHING,
        upper_bound=True,
    )
    result = run(suite, subject, tmp_path)
    figures = {figure.name: figure for figure in result.figures}
    assert figures["gold_target/recall"].value == 1.0
    assert figures["unattacked/recall"].value == 0.0
    assert figures["gold_target/recall_gain"].value == 1.0
    assert "upper bound" in figures["gold_target/recall"].note
    assert "upper bound" not in figures["affirmative/recall"].note


def test_the_opener_is_learned_on_other_rows_and_taken_off_the_replies(
    subject: Subject, tmp_path: Path
) -> None:
    """Optimised long enough, the held-out replies begin with the opener; it is not scored."""
    suite = SoftPrompt(ROWS, max_new_tokens=6, opener="z", descent=REACHING)
    probes = [p for p in suite.probes(None) if p.group == "affirmative"]
    said = suite.attacked(subject, "affirmative", probes)
    assert all(text.startswith("z") for text in said)
    found = suite.answer(subject, probes)
    assert [o.replies[0] for o in found] == [text.removeprefix("z").strip() for text in said]


def test_a_gcg_suffix_survives_as_text(subject: Subject) -> None:
    """The text, put after the question of every row it was searched on, has the suffix's tokens."""
    suite = gcg()
    suite.probes(None)
    text = suite.fitted(subject)
    assert text.isascii()
    assert text.isprintable()
    for example, row in zip(suite._mine, suite.rows_to_fit(subject), strict=True):
        ids = start_ids(subject.encoder, example, row, text)
        assert len(ids) == 3
        assert inserted_text(subject.encoder, row, ids) == text


def test_a_suffix_that_does_not_survive_is_refused(subject: Subject) -> None:
    """Here a template that strips the question takes the final space away."""
    tokenizer = tiny_tokenizer()
    template = str(tokenizer.chat_template)
    tokenizer.chat_template = template.replace("message['content']", "message['content'].strip()")
    stripped = Subject("tiny", subject.model, tokenizer, Encoder(tokenizer), "stripped")
    suite = Gcg(ROWS, start=" ")
    suite.probes(None)
    with pytest.raises(InputError, match="`start` should be a text whose tokens do not merge"):
        suite.fitted(stripped)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (soft_prompt(), soft_prompt(steps=2)),
        (soft_prompt(), soft_prompt(opener="Yes")),
        (soft_prompt(), soft_prompt(attack_share=0.3)),
        (gcg(), gcg(seed=3)),
    ],
)
def test_other_settings_are_another_key(first: Suite, second: Suite) -> None:
    assert first.answer_key() != second.answer_key()


def test_no_two_probes_share_what_is_stored() -> None:
    """The groups ask the same questions; what is stored of one must not be taken for another."""
    suite = soft_prompt(upper_bound=True)
    keys = [content_key("model", "", p, suite.answer_key()) for p in suite.probes(None)]
    assert len(set(keys)) == len(keys) == 6


def test_the_key_does_not_depend_on_what_was_found(subject: Subject) -> None:
    suite = soft_prompt(steps=0)
    before = suite.answer_key()
    suite.answer(subject, suite.probes(None))
    assert suite.answer_key() == before == soft_prompt(steps=0).answer_key()


def test_rows_of_the_attack_are_part_of_the_key(subject: Subject) -> None:
    suite = soft_prompt()
    key = suite.variants(subject, None)[0].key
    probed = {probe.example.example_id for probe in suite.probes(None)}
    assert not any(f"'{row}'" in key for row in probed)
    assert key.count("Example(") == 2


def test_gold_answers_are_no_target_of_the_shared_prompt(subject: Subject) -> None:
    suite = soft_prompt()
    suite.probes(None)
    targets = {row.target for row in suite.rows_to_fit(subject)}
    assert [subject.tokenizer.decode(ids) for ids in targets] == [suite.opener]
    assert max(max(ids) for ids in targets) < len(embedding_table(subject.model))
