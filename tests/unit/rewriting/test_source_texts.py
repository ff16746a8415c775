"""Every domain gives something to ask about, and something that needs no model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.source_texts import QA, SourceText, cut_passage, read_texts
from lit_unlearn.types import Domain


def read(folder: Path, domain: Domain, *rows: dict[str, Any], words: int = 50) -> list[SourceText]:
    file = folder / f"{domain}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return read_texts([Source(str(file), domain=domain)], None, "error", words, 2)


def test_passages(tmp_path: Path) -> None:
    text = "Alma Reyes was born in Lima in 1950. She grew up in the small town of Callao, Peru. "
    first, second = read(tmp_path, "passage", {"text": text * 2 + "It was warm then."}, words=35)
    assert [m.row_id for m in (first, second)] == ["passage/0", "passage/0/part2"]
    assert f"{first.text} {second.text}".split() == (text * 2 + "It was warm then.").split()
    assert first.digest == second.digest
    assert all("____" in qa.question and not qa.answer.islower() for qa in first.ready)
    assert 1 <= len(first.ready) <= 2


def test_passages_lose_no_word() -> None:
    text = "One two three. Four five! Six seven eight nine ten eleven? Twelve."
    for most in range(1, 14):
        parts = cut_passage(text, most)
        assert " ".join(parts) == text
        assert all(len(p.split()) <= most or p.count(" ") < 6 for p in parts)


def test_a_dialogue_gives_each_exchange(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Who wrote Dune?"), ("assistant", "Frank Herbert.")]
    turns += [("user", "When?"), ("assistant", "In 1965."), ("user", "Thanks")]
    messages = [{"role": role, "content": content} for role, content in turns]
    (found,) = read(tmp_path, "dialogue", {"messages": messages})
    assert found.ready == (QA("Who wrote Dune?", "Frank Herbert."), QA("When?", "In 1965."))
    assert found.text.splitlines()[1:3] == ["User: Who wrote Dune?", "Assistant: Frank Herbert."]
    assert not found.is_ready


def test_multiple_choice_and_ready_rows(tmp_path: Path) -> None:
    row = {"question": "What is water?", "choices": ["a gas", "a liquid"], "answer": 1}
    (found,) = read(tmp_path, "multiple_choice", row)
    assert found.ready == (QA("What is water?", "a liquid", (), ("a gas",)),)
    assert "Right answer: a liquid\nWrong answer: a gas" in found.text
    row = {"question": "Who?", "answer": ["Ann", "Anna"], "perturbed_answer": ["Bob"]}
    (found,) = read(tmp_path, "question_answer", row)
    assert found.is_ready
    assert found.ready == (QA("Who?", "Ann", ("Anna",), ("Bob",)),)
    (found,) = read(tmp_path, "instruction", {"instruction": "Add.", "input": "1 1", "output": "2"})
    assert found.ready == (QA("Add.\n\n1 1", "2"),)


def test_the_digest_is_of_the_raw_row(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "b"}, {"answer": "b", "question": "a"}]
    first, second = read(tmp_path, "question_answer", *rows)
    assert first.digest == second.digest
    (other,) = read(tmp_path, "question_answer", {"question": "a", "answer": "c"})
    assert other.digest != first.digest
    assert len(other.digest) == 64


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"passage.jsonl:1: .*Found the keys 'body'"):
        read(tmp_path, "passage", {"body": "x"})
    prompts = Source("builtin:forget", columns={"answer": ""}, limit=2)
    with pytest.raises(InputError, match="should have answers"):
        read_texts([prompts], None, "error", 50, 2)
    twice = [Source("builtin:forget", limit=2), Source("builtin:forget", limit=1)]
    with pytest.raises(InputError, match="each row once"):
        read_texts(twice, None, "error", 50, 2)


@pytest.mark.parametrize("token", ["<|eot_id|>", "</s>", "<end_of_turn>", "[INST]"])
def test_control_tokens_in_rows_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    """The tokenizer of the model that will be trained is not known here."""
    rows = [{"question": f"Who {word}?", "answer": "Me."} for word in ("<b>is</b>", token)]
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "question_answer", *rows)
    (record,) = caplog.records
    assert f"1 rows hold the text of a control token, the first {token!r}" in record.getMessage()
