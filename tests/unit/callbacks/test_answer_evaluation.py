"""AnswerEvaluation: shared out over processes, and read back by a run that is resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_unlearn.callbacks import AnswerEvaluation
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.chat_template import Template
from lit_unlearn.utils.ownership import write_text
from tests.processes import FORKED, in_processes

pytestmark = pytest.mark.usefixtures("own_cache", "undrawn")

FILE = "answers_before.jsonl"
ROWS = {
    name: [
        Example(f"{name}/{n}", (Turn("user", name * n),), "so" * n, "question_answer", ("no",))
        for n in range(1, 4)
    ]
    for name in ("forget", "retain")
}


def trainer(folder: Path, step: int = 0) -> Any:
    """Stand in for Lightning's, as far as the callback reads it at the start."""
    prefills = {"forget": ["Well,"], "retain": None}
    objectives = {n: SimpleNamespace(evaluation_prefills=p) for n, p in prefills.items()}
    template = Template()
    data = SimpleNamespace(
        evaluation=ROWS, objectives=objectives, max_length=512, template=template
    )
    return SimpleNamespace(
        default_root_dir=folder,
        global_step=step,
        is_global_zero=rank() == 0,
        datamodule=data,
        ckpt_path=None,
    )


def module() -> Any:
    source = ModelSource("random-tiny")
    return SimpleNamespace(student=tiny_model(), tokenizer=tiny_tokenizer(), source=source)


def values(callback: AnswerEvaluation) -> dict[str, float]:
    assert callback.before is not None
    figures = callback.before.suites["answers"].figures
    return {figure.name: figure.value for figure in figures}


def asked(folder: Path) -> dict[str, float]:
    """Ask before the first step, and return the figures."""
    torch.set_num_threads(1)
    callback = AnswerEvaluation(max_new_tokens=2, batch_size=2)
    callback.on_train_start(trainer(folder), module())
    return values(callback)


@FORKED
def test_two_processes_answer_what_one_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    wanted = pytest.approx(asked(tmp_path / "one"), abs=1e-5)
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path / "another"))
    assert in_processes(2, lambda: asked(tmp_path / "two"), tmp_path / "out") == [wanted] * 2
    one, two = (
        [json.loads(line) for line in (tmp_path / name / FILE).read_text("utf-8").splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == 9
    for mine, other in zip(one, two, strict=True):
        assert mine.pop("answer_nll") == pytest.approx(other.pop("answer_nll"), abs=1e-5)
        assert mine == other


def test_a_resumed_run_reads_the_answers_of_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = asked(tmp_path)
    monkeypatch.setattr("lit_unlearn.evaluation.suite_run.ask", None)  # nothing may be asked again
    callback = AnswerEvaluation(max_new_tokens=2)
    callback.on_train_start(trainer(tmp_path, step=3), module())
    assert values(callback) == wanted


def test_another_run_finds_the_answers_of_the_start_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage costs the damaged answer alone; other weights, or a checkpoint, are asked."""
    wanted = asked(tmp_path)
    monkeypatch.setattr("lit_unlearn.evaluation.suite_run.ask", None)
    (tmp_path / "other").mkdir()
    assert asked(tmp_path / "other") == wanted
    assert "9 of 9 from the cache" in capsys.readouterr().err
    changed, started = module(), trainer(tmp_path)
    changed.source.seed = 5
    with pytest.raises(TypeError):
        AnswerEvaluation(max_new_tokens=2).on_train_start(started, changed)
    started.ckpt_path = "last.ckpt"
    with pytest.raises(TypeError):
        AnswerEvaluation(max_new_tokens=2).on_train_start(started, module())
    monkeypatch.undo()
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path / "cache"))
    files = (tmp_path / "cache" / "answers").rglob("outcomes.jsonl")
    file = max(files, key=lambda each: each.stat().st_size)
    first, *rest = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([first.replace("replies", "replied"), *rest]), "utf-8")
    capsys.readouterr()
    assert asked(tmp_path) == pytest.approx(wanted, abs=1e-5)
    assert "8 of 9 from the cache" in capsys.readouterr().err


def test_a_new_run_in_the_same_folder_asks_anew(tmp_path: Path) -> None:
    write_text(tmp_path / FILE, "not read")  # as an earlier run did
    asked(tmp_path)
    first = json.loads((tmp_path / FILE).read_text("utf-8").splitlines()[0])
    assert (first["objective"], first["example_id"]) == ("forget", "forget/1")
    assert math.isfinite(first["answer_nll"])
