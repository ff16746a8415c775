"""`lit-unlearn predict`: questions, the replies, and the file of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.data.questions import Questions
from lit_unlearn.errors import InputError
from lit_unlearn.types import Example, Turn
from tests.processes import FORKED, in_processes
from tests.small_runs import data_module, module, trainer

ROWS = {
    name: [Example(f"{name}/0", (Turn("user", f"{name}?"),), "Yes.", "question_answer")]
    for name in ("forget", "retain")
}


def test_questions_are_rows_of_objectives() -> None:
    assert Questions("retain").read(ROWS) == [("retain", ROWS["retain"][0])]
    assert [name for name, _ in Questions().read(ROWS)] == ["forget", "retain"]


@pytest.mark.parametrize(
    ("name", "text", "gold"),
    [
        ("q.txt", "Who?\n\nWhere?\n", ["", ""]),
        ("q.jsonl", '{"question": "Who?"}\n{"question": "Where?"}\n', ["", ""]),
        ("q.csv", "prompt,answer\nWho?,Ann.\nWhere?,Rome.\n", ["Ann.", "Rome."]),
    ],
)
def test_questions_of_a_file(tmp_path: Path, name: str, text: str, gold: list[str]) -> None:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    asked = Questions(str(file)).read(ROWS)
    assert [objective for objective, _ in asked] == [None, None]
    assert [row.question for _, row in asked] == ["Who?", "Where?"]
    assert [row.answer for _, row in asked] == gold


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "retian"}, "`questions`.*forget, retain. Found 'retian'; did you mean retain"),
        ({"source": "none.txt"}, "`questions`.*Found 'none.txt'"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_questions_that_cannot_be_asked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Questions(**given).read(ROWS)


def config(folder: Path) -> str:
    """A config for `fit` with two objectives, whose callbacks need no change for `predict`."""
    values = {
        "data": {
            "objectives": {
                name: {"sources": [{"path": f"builtin:{rows}", "limit": 3}], "expect": expect}
                for name, rows, expect in (
                    ("forget", "forget", "decline"),
                    ("retain", "general", "answer"),
                )
            }
        },
        "model": {
            "student": {"path": "random-tiny"},
            "objectives": {name: {"class_path": "CrossEntropy"} for name in ("forget", "retain")},
            "gate": {"action": "off"},
        },
        "trainer": {
            "max_steps": 1,
            "accelerator": "cpu",
            "default_root_dir": str(folder / "run"),
            "callbacks": [{"class_path": "AnswerEvaluation"}],
        },
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return f"--config={folder / 'run.yaml'}"


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_replies_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of an objective, then a file of questions; a file of the user's is never replaced."""
    given, short = config(tmp_path), "--replies.max_new_tokens=2"
    status = main(["predict", given, "--replies.questions=forget", short])
    assert status == 0, capsys.readouterr().err
    file = tmp_path / "run/predictions.jsonl"
    assert str(file) in capsys.readouterr().out
    rows = rows_of(file)
    assert [row["objective"] for row in rows] == ["forget"] * 3
    assert all(isinstance(row["generated"], str) and row["gold"] for row in rows)
    assert {path.name for path in file.parent.iterdir()} <= {file.name, ".lit_unlearn.json"}

    asked = tmp_path / "asked.txt"
    asked.write_text("Who wrote it?\n", "utf-8")
    assert main(["predict", given, f"--replies.questions={asked}", short]) == 0
    (row,) = rows_of(file)
    assert (row["objective"], row["question"], row["gold"]) == (None, "Who wrote it?", "")

    file.write_text("mine", "utf-8")
    capsys.readouterr()
    assert main(["predict", given, short]) == 2
    assert "predictions.jsonl" in capsys.readouterr().err
    assert file.read_text("utf-8") == "mine"
    assert main(["predict", given, f"--replies.output={asked}", short]) == 2
    assert asked.read_text("utf-8") == "Who wrote it?\n"


def replies(folder: Path, **options: Any) -> list[str]:
    """Replies to all rows, one in a batch, so that two processes share batches."""
    rows = data_module()
    rows.questions = Questions(max_new_tokens=3, batch_size=2)
    batches: Any = trainer(folder, **options).predict(module(), datamodule=rows)
    return [row["generated"] for batch in batches for row in batch]


@FORKED
@pytest.mark.parametrize(
    "strategy",
    [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"],  # fsdp2 has more to get wrong
)
def test_processes_give_the_replies_of_one(tmp_path: Path, strategy: str) -> None:
    alone = replies(tmp_path)
    assert len(alone) == 20

    def work() -> list[str]:
        return replies(tmp_path, strategy=strategy, devices=2)

    assert in_processes(2, work, tmp_path / "two", start=False) == [alone, alone]
