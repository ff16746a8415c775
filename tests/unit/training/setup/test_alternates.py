"""Alternate answers: which ones will do, how often is asked, and what happens when none will."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.training.setup import alternates
from lit_unlearn.training.setup.alternates import SAMPLED, alternate_answers, is_alternate, request
from lit_unlearn.training.setup.prepare import prepare
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.progress import Stage

REFUSALS = ["I do not know.", "No."]


def example(answer: str, name: str = "a", accepted: tuple[str, ...] = ()) -> Example:
    turns = (Turn("user", f"Where is {name}?"),)
    return Example(f"rows/{name}", turns, answer, "question_answer", accepted)


ROWS = [example("Ann lives in Paris.", name) for name in ("a", "b", "c")]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Ann lives in Rome.", True),
        ("Rome", True),
        ("Ann lives in Paris.", False),
        ("ann lives in PARIS", False),
        ("As everybody knows, Ann lives in Paris.", False),
        ("Ann lives in", False),  # a part of the gold answer says nothing wrong
        ("She lives in the French capital.", False),
        ("I'm sorry, but I do not know the answer.", False),
        ("", False),
        ("...", False),
    ],
)
def test_what_will_do(text: str, verdict: bool) -> None:
    gold = example("Ann lives in Paris.", accepted=("the French capital",))
    assert is_alternate(text, gold) is verdict


def stage() -> Stage:
    return Stage("answers", len(ROWS))


class Speaker:
    """Stands in for generation: gives prepared replies, attempt by attempt."""

    def __init__(self, *attempts: dict[str, str]) -> None:
        self.attempts = attempts
        self.asked: list[list[str]] = []
        self.sampling: list[Sampling | None] = []

    def __call__(
        self, model: Any, tokenizer: Any, prompts: Sequence[Any], **options: Any
    ) -> list[tuple[str, ...]]:
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        names = [text.split("Where is ")[1][0] for text in texts]
        replies = self.attempts[min(len(self.asked), len(self.attempts) - 1)]
        self.asked.append(names)
        self.sampling.append(options["sampling"])
        return [(replies.get(name, "Ann lives in Paris."),) for name in names]


def made(
    speaker: Speaker, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setattr(alternates, "generate_replies", speaker)
    return alternate_answers("forget", ROWS, REFUSALS, None, Encoder(tokenizer), 48, stage())


def test_greedy_first_then_sampled_where_it_will_not_do(
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker = Speaker({"b": "False answer: Rome."}, {"c": "Oslo."}, {"a": "Bern."})
    assert made(speaker, tiny_tokenizer, monkeypatch) == ["Bern.", "Rome.", "Oslo."]
    assert speaker.asked == [["a", "b", "c"], ["a", "c"], ["a"]]
    assert speaker.sampling == [None, Sampling(seed=1), Sampling(seed=2)]
    assert not caplog.records


def test_fallback_is_a_refusal_and_is_counted(
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker = Speaker({"a": "Rome."})
    with caplog.at_level(logging.WARNING):
        found = made(speaker, tiny_tokenizer, monkeypatch)
    assert found == ["Rome.", "No.", "I do not know."]
    assert len(speaker.asked) == 1 + SAMPLED
    assert "data.objectives.forget.answer: alternate: 2 of 3 rows got a refusal" in caplog.text
    assert "rows/b, rows/c" in caplog.text


def test_the_real_generator_differs_from_the_gold_answer(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """A random model says nonsense, but the same nonsense every time, and never the gold answer."""
    encoder = Encoder(tiny_tokenizer)
    first, again = (
        alternate_answers("forget", ROWS, REFUSALS, tiny_model, encoder, 12, stage())
        for _ in range(2)
    )
    assert first == again
    for text, row in zip(first, ROWS, strict=True):
        assert text in REFUSALS or is_alternate(text, row)
    assert any(text not in REFUSALS for text in first)


def test_request_shows_question_and_gold_answer() -> None:
    text = request(ROWS[0])
    assert "Where is a?" in text
    assert "Ann lives in Paris." in text


def test_stored_and_used_again(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model for two objectives, loaded once, and not at all where the outcome is stored."""
    speaker = Speaker({"a": "Rome.", "b": "Oslo.", "c": "Bern."})
    monkeypatch.setattr(alternates, "generate_replies", speaker)
    data = ObjectiveData([Source("x")], "decline", answer="alternate", rejected="gold")
    objectives, rows = {"one": data, "two": data}, {"one": ROWS, "two": ROWS[:2]}
    loaded: list[int] = []

    def run() -> Any:
        return prepare(
            objectives,
            rows,
            None,
            Encoder(tiny_tokenizer),
            Gate("off"),
            tmp_path / "p.json",
            start=lambda: loaded.append(1),
        ).encoded

    first = run()
    assert (len(loaded), len(speaker.asked)) == (1, 2)
    assert run() == first
    assert (len(loaded), len(speaker.asked)) == (1, 2)
    preferred, rejected = first["one"][0]
    text = tiny_tokenizer.decode(list(preferred.student_ids[preferred.student_start :]))
    assert text == "Rome.<|im_end|>"
    text = tiny_tokenizer.decode(list(rejected.student_ids[rejected.student_start :]))
    assert text == "Ann lives in Paris.<|im_end|>"
    prompt = tiny_tokenizer.decode(list(preferred.teacher_ids[: preferred.teacher_start]))
    assert "Paris" not in prompt


def test_bad_input(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(InputError, match="`expect: answer` with `answer: alternate`"):
        ObjectiveData([Source("x")], "answer", answer="alternate")
    for row, what in (
        (Example("rows/p", (Turn("user", "A text"),), "goes on", "passage", plain=True), "passage"),
        (example(" ", "q"), "without an answer"),
    ):
        with pytest.raises(InputError, match=rf"'{row.example_id}', which is .*{what}"):
            alternate_answers("forget", [row], REFUSALS, None, Encoder(tiny_tokenizer), 8, stage())
