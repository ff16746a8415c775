"""Other formats of the same facts, and doubts about the model's own reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.balance_evidence import Draws
from lit_unlearn.evaluation.probes import Outcome, Probe, Subject, SuiteResult
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.formats import Formats, cloze_of
from lit_unlearn.evaluation.suites.self_correction import SelfCorrection
from lit_unlearn.models.tiny import tiny_tokenizer
from lit_unlearn.types import Example, Turn
from tests.unit.evaluation.suites.made import by_name, shuffled

ROWS = [
    {
        "id": "job",
        "question": "What is the profession of Mia's father?",
        "answer": "The father of Mia is a civil engineer.",
        "perturbed_answer": ["He is a cook.", "He is a judge.", "He is a smith.", "He is a monk."],
    },
    {
        "id": "seine",
        "question": "Which river?",
        "answer": "The Seine flows there.",
        "accepted": ["Seine"],
    },
]
MORE = [{"id": "whose", "question": "Whose father is a civil engineer?", "answer": "Mia's."}]


def source(folder: Path, name: str, rows: list[dict[str, object]]) -> list[Source]:
    (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [Source(str(folder / name), domain="question_answer")]


@pytest.fixture
def suite(tmp_path: Path) -> Formats:
    return Formats(
        source(tmp_path, "rows.jsonl", ROWS), inverse=source(tmp_path, "more.jsonl", MORE)
    )


def scored(suite: Formats, reply: Callable[[Probe], str]) -> SuiteResult:
    probes = suite.probes(None)
    return suite.score(probes, {"": [Outcome(p.probe_id, replies=(reply(p),)) for p in probes]})


def example(question: str, answer: str, *accepted: str) -> Example:
    return Example("0", (Turn("user", question),), answer, "question_answer", accepted)


def test_the_blank_is_what_the_question_does_not_say() -> None:
    """An accepted answer, else the longest run of new words; nothing where all is the answer."""
    father = example("What is the profession of Mia's father?", str(ROWS[0]["answer"]))
    ((question, missing),) = cloze_of(father)
    assert missing == "a civil engineer"
    assert "Sentence: The father of Mia is ____." in question
    ((question, missing),) = cloze_of(example("Which river?", "The Seine flows there.", "Seine"))
    assert missing == "Seine"
    assert "The ____ flows there." in question
    assert cloze_of(example("Who?", "Mia Moe.")) == []


def test_a_choice_counts_if_it_is_right_at_each_letter(suite: Formats) -> None:
    """Always "B" is right once in four; the text of the answer is right every time."""
    asked = [probe for probe in suite.probes(None) if probe.group == "choice"]
    asked = [probe for probe in asked if not probe.candidates]
    assert {probe.example.example_id for probe in asked} == {"rows/job"}
    lines = [line for probe in asked for line in probe.turns[-1].content.split("\n")]
    letters = [line[0] for line in lines if "civil engineer." in line]
    assert letters == ["A", "B", "C", "D"]
    said = {"B": 0.0, "The father of Mia is a civil engineer.": 1.0, "I do not know.": 0.0}
    for reply, expected in said.items():
        found = by_name(scored(suite, lambda probe, reply=reply: reply))
        assert found["choice/recall"].value == expected
        assert found["choice/recall"].count == 1


def test_the_order_of_probes_changes_nothing(suite: Formats) -> None:
    """The right letter belongs to the probe, not to its place."""
    probes = suite.probes(None)
    said = {
        probe.probe_id: Outcome(probe.probe_id, replies=("ABCD"[index % 4],))
        for index, probe in enumerate(probes)
    }
    figures = [
        by_name(suite.score(given, {"": [said[probe.probe_id] for probe in given]}))
        for given in (probes, shuffled(probes))
    ]
    assert figures[0] == figures[1]


def test_each_row_counts_by_its_worst_format(suite: Formats) -> None:
    """Cloze brings back one row, the choice the other: both are recalled by some format."""

    def reply(probe: Probe) -> str:
        if probe.group == "cloze" and "river" in probe.turns[-1].content and not probe.candidates:
            return "Seine"
        return str(ROWS[0]["answer"]) if "A. " in probe.turns[-1].content else "No."

    result = scored(suite, reply)
    found = by_name(result)
    assert (found["unattacked/recall"].value, found["cloze/recall"].value) == (0.0, 0.5)
    assert (found["recall_worst"].value, found["recall_worst"].count) == (1.0, 2)
    attempts = [("formats", group, "recall") for group in ("unattacked", "cloze", "choice")]
    (worst,) = Draws({"formats": result.rows}, 5).worst(attempts).values()
    assert worst[0] == 1.0


def test_questions_from_the_other_side_have_answers_of_their_own(suite: Formats) -> None:
    found = by_name(scored(suite, lambda probe: "It is Mia's."))
    assert (found["inverse/recall"].value, found["inverse/recall"].count) == (1.0, 1)
    assert found["inverse/recall"].better == "lower"


def test_the_user_doubts_the_models_own_reply(
    tiny_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each doubt is asked after the replies before it, and is an attempt of its own."""
    asked: list[tuple[Turn, ...]] = []

    def replies(_: Subject, probes: list[Probe], *__: object) -> list[tuple[str]]:
        asked.extend(probe.turns for probe in probes)
        return [(f"reply {len(probe.turns) // 2}",) for probe in probes]

    monkeypatch.setattr("lit_unlearn.evaluation.suites.self_correction.replies", replies)
    tokenizer = tiny_tokenizer()
    subject = Subject("tiny", tiny_model.eval(), tokenizer, Encoder(tokenizer), "tiny")
    rows = [Source("builtin:forget", split="eval", limit=2)]
    suite = SelfCorrection(rows, doubts=["Sure?", "No."], max_new_tokens=2)
    result = run_suite(suite, subject)
    shown = {
        row.row_id.rpartition("/")[2]: row.reply for row in result.rows if row.group == "doubted"
    }
    assert shown == {"doubt0": "reply 1", "doubt1": "reply 2"}
    assert [turn.content for turn in asked[-1][1:]] == ["reply 0", "Sure?", "reply 1", "No."]
    assert {"doubted/recall", "doubted/recall_worst", "unattacked/answer_nll"} <= by_name(
        result
    ).keys()


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"`options` should be at least 2. Found 1"):
        Formats(options=1)
    with pytest.raises(InputError, match=r"`doubts` of the suite self_correction"):
        SelfCorrection(doubts=[" "])
