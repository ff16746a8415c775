"""The pipeline with a model whose replies are written down, and without one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.rewriting.backends import Backend
from lit_unlearn.rewriting.drafts import Candidate, RewriteResult, RowSettings
from lit_unlearn.rewriting.estimate import estimate, planned
from lit_unlearn.rewriting.journal import Journal, Reply
from lit_unlearn.rewriting.output import counts
from lit_unlearn.rewriting.pipeline import ALONE, FORM, LEAK, MODEL, NEW, SUPPORT, Rewriter
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.questioner import Asker
from lit_unlearn.rewriting.source_texts import QA, SourceText, read_texts

SETTINGS = RowSettings(attempts=2, passage_words=50)
GOOD = '{"rating": 5}'


def pairs(*given: tuple[str, str]) -> str:
    return json.dumps({"pairs": [{"question": q, "answer": a} for q, a in given]})


class Scripted(Backend):
    """Says what is written down for a task, reply by reply; the last one for ever."""

    def __init__(self, **script: str | list[str | None]) -> None:
        self.script = script
        self.asked: list[tuple[str, int]] = []

    name = "scripted"

    def identity(self) -> str:
        return "scripted 1"

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        for index, ask in reversed(list(enumerate(asks))):
            self.asked.append((ask.task, attempt))
            replies = self.script[ask.task]
            texts = [replies] if isinstance(replies, str) else replies
            text = texts[min(attempt, len(texts) - 1)]
            if text is not None:
                yield {index: Reply(text, seconds=2.0, reply_tokens=8)}

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float:
        return prompt_tokens + 10 * reply_tokens


def passage(number: int, text: str, ready: tuple[QA, ...] = ()) -> SourceText:
    return SourceText(f"p/{number}", "p", "0" * 64, "passage", text, ready)


def question(number: int, qa: QA) -> SourceText:
    return SourceText(f"q/{number}", "q", "0" * 64, "question_answer", "", (qa,))


def run(
    folder: Path,
    backend: Backend | None,
    forget: Sequence[SourceText],
    keep: Sequence[SourceText] = (),
    settings: RowSettings = SETTINGS,
) -> RewriteResult:
    if backend is None:
        return Rewriter(settings, None).run(forget, keep)
    with Journal(folder) as journal:
        asker = Asker(backend, journal, settings.attempts)
        return Rewriter(settings, asker).run(forget, keep)


def refusals(candidates: Sequence[Candidate]) -> list[tuple[str, list[str]]]:
    return [(c.qa.question, [k for k, v in c.checks.items() if v]) for c in candidates]


TEXT = "Alma Reyes was born in Lima. The writer Alma Reyes studied law in Cusco until 1970."


def test_what_is_written_is_checked(tmp_path: Path) -> None:
    """Each check refuses what it is there for, and no more questions are taken than asked for."""
    reply = pairs(
        ("Where was she born?", "In Lima."),
        ("Where was Alma Reyes born?", "In Quito."),
        ("In Lima, where was Alma Reyes born?", "Lima"),
    )
    again = pairs(
        ("What did Alma Reyes study?", "She studied law."),
        ("What did Alma Reyes study??", "Law."),
        ("Where was Alma Reyes born?", "In Lima."),
        ("One more than was asked for?", "Law."),
    )
    backend = Scripted(rate=GOOD, write=[reply])
    first = run(tmp_path / "1", backend, [passage(0, TEXT)], settings=replace(SETTINGS, anchors=0))
    assert [names for _, names in refusals(first.candidates)] == [
        [ALONE],
        [SUPPORT],
        [FORM, SUPPORT],
    ]
    second = run(
        tmp_path / "2",
        Scripted(rate=GOOD, write=again),
        [passage(0, TEXT)],
        settings=replace(SETTINGS, anchors=0),
    )
    assert [names for _, names in refusals(second.candidates)] == [[], [NEW], []]
    assert [c.row_id for c in second.accepted("forget")] == ["p/0/1", "p/0/3"]


def test_form_of_the_reply(tmp_path: Path) -> None:
    """Asked again until the form is right; what the model does not take is not asked again."""
    good = pairs(("Where was Alma Reyes born?", "In Lima."))
    settings = replace(SETTINGS, anchors=0, fall_back=False)
    backend = Scripted(rate="I like it", write=["half a {", good])
    result = run(tmp_path / "1", backend, [passage(0, TEXT)], settings=settings)
    (row,) = result.accepted("forget")
    assert (row.made.by, row.made.attempt, row.made.model) == ("model", 1, "scripted")
    assert backend.asked == [("rate", 0), ("rate", 1), ("write", 0), ("write", 1)]
    backend = Scripted(rate=GOOD, write=[None])
    result = run(tmp_path / "2", backend, [passage(0, TEXT)], settings=settings)
    assert [task for task, _ in backend.asked].count("write") == 1
    assert "did not take" in result.lost[0].reason


def test_what_gives_nothing_is_reported(tmp_path: Path) -> None:
    """A text of which the model asks nothing, and a row without its anchors."""
    result = run(tmp_path, Scripted(rate=GOOD, write=pairs(), anchor=pairs()), [passage(0, TEXT)])
    assert [lost.reason for lost in result.lost] == ["the model wrote no question"]
    result = run(tmp_path, Scripted(anchor=pairs()), FORGET, KEEP)
    assert [lost.reason for lost in result.lost] == ["fewer anchors than requested: q/0 has 1 of 2"]


def test_what_a_model_has_said_before(tmp_path: Path) -> None:
    """Only replies of the same model tell that it works, and how fast it is."""
    backend = Scripted(rate=GOOD, write=pairs())
    run(tmp_path, backend, [passage(0, TEXT)])
    other = Scripted()
    other.identity = lambda: "another"  # type: ignore[method-assign]
    with Journal(tmp_path) as journal:
        assert len(Asker(backend, journal, 1).known()) == 2
        asker = Asker(other, journal, 1)
        assert asker.known() == []
        assert estimate(planned([passage(1, TEXT)], [], SETTINGS), asker).seconds is None
        assert (backend.proven, other.proven) == (True, False)


def test_low_ratings_and_the_fall_back(tmp_path: Path) -> None:
    """Without an acceptable question a passage gets those by rule, if it was not rated low."""
    by_rule = QA("Fill in the blank: Alma Reyes was born in ____.", "Lima")
    bad = pairs(("What is the passage about?", "Alma."))
    given = [passage(0, TEXT, (by_rule,))]
    result = run(tmp_path / "1", Scripted(rate=GOOD, write=bad, anchor=bad), given)
    found = [(c.made.by, c.is_accepted) for c in result.candidates if c.part == "forget"]
    assert found == [("model", False), ("rules", True)]
    result = run(tmp_path / "2", Scripted(rate='{"rating": 2}'), given)
    assert result.candidates == []
    assert [lost.reason for lost in result.lost] == ["rated below 3 of 5"]


def test_a_wrong_option_is_no_evidence(tmp_path: Path) -> None:
    text = "Question: Which is a gas?\nRight answer: helium\nWrong answer: iron"
    ready = QA("Which is a gas?", "helium", (), ("iron",))
    given = SourceText("m/0", "m", "0" * 64, "multiple_choice", text, (ready,))
    settings = replace(SETTINGS, anchors=0)
    for answer, made_by in (("It is helium.", "model"), ("It is iron.", "rules")):
        backend = Scripted(open=pairs(("Which of the two is a gas?", answer)))
        (row,) = run(tmp_path / made_by, backend, [given], settings=settings).accepted("forget")
        assert row.made.by == made_by
        assert row.qa.distractors == ("iron",)
        assert "helium" in (*row.qa.accepted, row.qa.answer)


FORGET = [question(0, QA("Where does Ann live?", "Ann lives in Rome.", ("Rome",)))]
KEEP = [
    question(1, QA("Where does Bea live?", "In Oslo.")),
    question(2, QA("Where does Cleo live?", "Near Rome.")),
    question(3, QA("Who is Bea?", "A singer.")),
    question(4, QA("where does ANN live", "In Oslo.")),
]


def test_anchors(tmp_path: Path) -> None:
    """A leaking anchor is refused, and the nearest row to keep takes its place."""
    backend = Scripted(
        anchor=pairs(("Where does Dan live?", "In Oslo."), ("Where does Eve live?", "In Rome."))
    )
    result = run(tmp_path, backend, FORGET, KEEP)
    found = [c for c in result.candidates if c.part == "anchors"]
    assert refusals(found) == [
        ("Where does Dan live?", []),
        ("Where does Eve live?", [LEAK]),
        ("Where does Bea live?", []),
    ]
    assert {c.anchor_of for c in found} == {"q/0"}
    (line,) = [c for c in counts(run(tmp_path / "rules", None, FORGET, KEEP)) if c.check == LEAK]
    assert (line.passed, line.checked) == (2, 3)  # "Near Rome." was refused
    assert [c.made.by for c in found] == ["model", "model", "rules"]
    kept = {c.qa.question: c.is_accepted for c in result.candidates if c.part == "keep"}
    assert kept["where does ANN live"] is False  # it is to be forgotten


def test_without_a_model(tmp_path: Path) -> None:
    """Anchors are rows to keep of the same form, without forgotten answers, each used once."""
    result = run(tmp_path, None, FORGET, KEEP)
    assert [c.qa.question for c in result.accepted("anchors")] == ["Where does Bea live?"]
    two = [*FORGET, question(9, QA("Where does Flo live?", "In Bern."))]
    result = run(tmp_path, None, two, KEEP)
    assert [(c.anchor_of, c.qa.question) for c in result.accepted("anchors")] == [
        ("q/0", "Where does Bea live?")
    ]
    assert not list(tmp_path.iterdir())


def test_the_model_checks_what_the_rules_let_through(tmp_path: Path) -> None:
    reply = pairs(("Where was Alma Reyes born?", "In Lima."), ("Where was she born?", "In Lima."))
    settings = replace(SETTINGS, model_checks=True, anchors=0)
    for verdict, problem in (
        ('{"clear": true, "supported": true}', ""),
        ('{"clear": true, "supported": false}', "the model says: not supported"),
        ("Yes", "no verdict: no JSON object in the reply"),
    ):
        backend = Scripted(rate=GOOD, write=reply, judge=verdict)
        result = run(tmp_path / problem[:6], backend, [passage(0, TEXT)], settings=settings)
        first, second = result.candidates
        assert first.checks[MODEL] == problem
        assert MODEL not in second.checks


def test_an_anchor_chosen_by_rule_says_who_wrote_it(tmp_path: Path) -> None:
    write = pairs(("Where was Alma Reyes born?", "In Lima."))
    backend = Scripted(rate=GOOD, write=write, anchor=pairs())
    forget = [question(0, QA("Where was Olga Brandt born?", "In Oslo."))]
    result = run(tmp_path, backend, forget, [passage(0, TEXT)])
    (anchor,) = result.accepted("anchors")
    assert (anchor.made.by, anchor.made.model) == ("rules", "scripted")
    assert anchor.made.prompt.startswith("write-")


def test_counts_add_up(tmp_path: Path) -> None:
    result = run(tmp_path, None, FORGET, KEEP)
    for part in ("forget", "keep", "anchors"):
        (line,) = [c for c in counts(result) if (c.part, c.check) == (part, "all checks")]
        assert line.passed == len(result.accepted(part))
        assert line.checked == sum(c.part == part for c in result.candidates)
    checked = {c.check: c.checked for c in counts(result) if c.part == "keep"}
    assert checked[NEW] == 4


def test_estimate(tmp_path: Path) -> None:
    """Two passages, one ready row: an upper limit on the calls, which the run keeps."""
    forget = [passage(0, TEXT), *FORGET]
    keep = [passage(1, TEXT.replace("Alma", "Olga"))]
    settings = replace(SETTINGS, model_checks=True, attempts=1)
    reply = pairs(("Where was Alma Reyes born?", "In Lima."))
    yes = '{"clear": true, "supported": true, "true": true}'
    backend = Scripted(rate=GOOD, write=reply, anchor=reply, judge=yes, confirm=yes)
    with Journal(tmp_path) as journal:
        asker = Asker(backend, journal, 1)
        before = estimate(planned(forget, keep, settings), asker)
        # writing and rating 2 each, judging 2 x 3, anchors for 3 + 1 rows, 2 checks of each
        assert (before.calls, before.answered) == (2 + 2 + 6 + 4 + 8, 0)
        assert before.seconds is None
        Rewriter(settings, asker).run(forget, keep)
        after = estimate(planned(forget, keep, settings), asker)
    assert len(backend.asked) <= before.calls
    assert after.answered == 4
    assert after.reply_tokens == before.reply_tokens - 2 * (8 + 6 * 48)
    assert after.seconds == pytest.approx(after.reply_tokens * 2.0 / 8)
    assert after.cost == pytest.approx(after.prompt_tokens + 10 * after.reply_tokens)


def test_attempts_multiply_the_estimate(tmp_path: Path) -> None:
    settings, backend = replace(SETTINGS, lowest_rating=1), Scripted(write="no JSON")
    with Journal(tmp_path) as journal:
        asker = Asker(backend, journal, 3)
        before = estimate(planned([], [passage(0, TEXT)], settings), asker)
        Rewriter(settings, asker).run([], [passage(0, TEXT)])
    assert len(backend.asked) == before.calls * before.attempts == 3
    assert str(before).endswith("up to 3 times that if replies lack the requested form")


def test_gold_rows_pass(benchmark_data: Path) -> None:
    """TOFU's authors: by rule nearly every row gets both anchors, and none of them leaks."""
    sources = [Source("locuslab/TOFU", name, limit=n) for name, n in (("forget01", 20),)]
    forget = read_texts(sources, benchmark_data, "error", 150, 3)
    keep = read_texts(
        [Source("locuslab/TOFU", "retain90", limit=300)], benchmark_data, "error", 9, 3
    )
    result = Rewriter(SETTINGS, None).run(forget, keep)
    anchors = result.accepted("anchors")
    assert len(result.accepted("forget")) >= 19
    assert len(anchors) >= 36
    assert len({c.row_id.split("/anchor/")[1] for c in anchors}) == len(anchors)
    assert not any("Basil" in c.qa.question + c.qa.answer for c in anchors)
