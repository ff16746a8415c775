"""Examples of several sources: ids, domains, skipped rows, and the real benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_unlearn.data.benchmarks import KNOWN
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.types import Example, Representation


@pytest.fixture(autouse=True)
def _no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_UNLEARN_DATA", raising=False)


def write_lines(file: Path, *rows: object) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def qa_rows(count: int) -> list[dict]:
    return [{"question": f"Question {n}?", "answer": f"Answer {n}."} for n in range(count)]


def test_ids_are_stable_and_unique(tmp_path: Path) -> None:
    """Two folders with a file of the same name; parts of one file share its name."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_lines(tmp_path / "a" / "rows.jsonl", *qa_rows(4))
    second = write_lines(tmp_path / "b" / "rows.jsonl", *qa_rows(1))
    sources = [
        Source(first, domain="question_answer", limit=1),
        Source(first, domain="question_answer", offset=2),
        Source(second, domain="question_answer"),
    ]
    ids = [example.example_id for example in load_examples(sources)]
    assert ids == ["rows/0", "rows/2", "rows/3", "rows#2/0"]
    with pytest.raises(InputError, match=r"each row once\. Found row 'rows/0' twice"):
        load_examples([*sources, Source(first, domain="question_answer")])


def test_a_source_without_domain(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", *qa_rows(1))
    with pytest.raises(InputError, match=r"`domain` of source .* should be one of question_answer"):
        load_examples([Source(file)])


def test_an_unknown_part_of_a_known_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean config=forget10 split=train.*known: "):
        load_examples([Source("locuslab/TOFU", "forget11")], tmp_path)


def test_skipped_rows_of_reading_and_converting_are_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rows.jsonl"
    write_lines(file, {"question": "", "answer": "x"}, *qa_rows(1))
    file.write_text(file.read_text() + "{broken\n")
    source = Source(str(file), domain="question_answer")
    with pytest.raises(InputError, match=r"rows\.jsonl:3: not JSON"):
        load_examples([source])
    assert len(load_examples([source], on_bad_row="skip")) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("Skipped 2 bad rows of")


def test_a_source_with_bad_rows_alone(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", {"question": "", "answer": "x"})
    with pytest.raises(InputError, match=r"Found 1 bad and no usable rows; Bad row at"):
        load_examples([Source(file, domain="question_answer")], on_bad_row="skip")


@pytest.mark.parametrize("representation", ["unified", "raw"])
def test_every_known_benchmark_converts(
    benchmark_data: Path, representation: Representation
) -> None:
    for known in KNOWN:
        if known.domain is None or not (benchmark_data / known.file).is_file():
            continue
        source = Source(known.hub_id, known.config, known.split, limit=200)
        examples = load_examples([source], benchmark_data, representation)
        assert {example.domain for example in examples} == {known.domain}
        assert all(example.turns[-1].role == "user" for example in examples)
        assert all(example.plain == (representation == "raw") for example in examples)
        answerless = known.columns.get("answer") == ""
        assert all((example.answer == "") == answerless for example in examples)


def test_known_values_of_real_rows(benchmark_data: Path) -> None:
    def first(path: str, config: str | None, split: str, **options: object) -> Example:
        return load_examples([Source(path, config, split, limit=1, **options)], benchmark_data)[0]

    author = first("locuslab/TOFU", "real_authors", "train")
    assert author.answer == "William Shakespeare"
    assert author.distractors == ("Charles Dickens", "Virginia Woolf", "Mark Twain")
    level1 = first("jinzhuoran/RWKU", "forget_level1", "test")
    assert level1.question.startswith("Fill in the blank: Stephen Edwin King")
    assert level1.example_id == "RWKU/forget_level1/test/0"
    assert len(first("locuslab/TOFU", "forget01_perturbed", "train").distractors) == 5
    trivia = first("jinzhuoran/RWKU", "utility_factuality", "test")
    assert "Moonwalk" in trivia.accepted


def test_the_target_list_of_rwku_is_no_training_data(benchmark_data: Path) -> None:
    with pytest.raises(InputError, match=r"`domain` of source"):
        load_examples([Source("jinzhuoran/RWKU", "forget_target")], benchmark_data)
