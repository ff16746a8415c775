"""The student's own answers: sampled in training, kept for some steps, the same after a resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from lit_unlearn.data.contexts import Echo
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import DeclineEverywhere, ForwardKL, GradientAscent
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training import own_answers
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from tests.small_runs import Recorder, losses, trainer

pytestmark = pytest.mark.usefixtures("own_cache")
STEPS = 4


def rows() -> UnlearnDataModule:
    """Two rows to forget, both in every step; answers are sampled anew after three steps."""
    sources = [Source("builtin:forget", split="train", limit=2)]
    own: Any = {"answer": "student", "answer_tokens": 6, "refresh_steps": 3}
    path = ObjectiveData(sources, "decline", 2, context=Echo(), **own)
    return UnlearnDataModule({"path": path, "samples": ObjectiveData(sources, "decline", 2, **own)})


def model(folder: Path) -> UnlearnModule:
    return UnlearnModule(
        ModelSource(TINY_NAME, trainable=["layers[.]1[.]"]),
        {"path": DeclineEverywhere(ForwardKL()), "samples": GradientAscent(weight=0.5)},
        FrozenTeacher(cache=str(folder / "teacher")),  # it reads questions, which stay the same
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2),
    )


class Stop(Callback):
    """Saves a checkpoint after two steps."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "two.ckpt")


def fit(folder: Path, resume: Path | None = None) -> tuple[UnlearnModule, Recorder]:
    made, recorder = model(folder), Recorder()
    run = trainer(folder, recorder, Stop(), max_steps=STEPS)
    run.fit(made, datamodule=rows(), ckpt_path=resume)
    return made, recorder


def test_answers_are_kept_for_some_steps_and_over_a_resume(tmp_path: Path) -> None:
    """Steps 0 to 2 train the samples of step 0, and step 3 those of step 3."""
    whole, recorder = fit(tmp_path / "whole")
    for kept in whole.own_answers.kept.values():
        assert {step for step, _ in kept.values()} == {3}
    early = torch.load(tmp_path / "whole/two.ckpt", weights_only=True)["own_answers"]
    assert {step for step, _ in early["path"].values()} == {0}
    assert early["path"] == early["samples"]  # from seed, step and prompt alone
    assert early["path"] != whole.own_answers.kept["path"]
    assert len({text for _, text in early["path"].values()}) == 2
    resumed, rest = fit(tmp_path / "part", tmp_path / "whole/two.ckpt")
    assert losses(rest) == losses(recorder)[2:]
    for one, other in zip(whole.parameters_trained, resumed.parameters_trained, strict=True):
        assert torch.equal(one, other)


def test_an_answer_that_declines_is_the_gold_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row's reply is trained; the second one's declines."""
    said = iter(["It is Rome.", "I'm sorry, but I don't know."] * 2)

    def replies(*args: Any, **options: Any) -> list[tuple[str]]:
        prompts: Sequence[Any] = args[2]
        return [(next(said),) for _ in prompts]

    monkeypatch.setattr(own_answers, "generate_replies", replies)
    made, data, seen = model(tmp_path), rows(), dict[str, str]()

    class See(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, _: int) -> None:
            found = module.own_answers.renewed(batch, 0, data, module.student, module.tokenizer)
            (one,) = found["samples"]
            for index, row in enumerate(one.example_ids):
                ids = one.target_ids[one.student.rows == index]
                seen[row] = module.tokenizer.decode(ids, skip_special_tokens=True)

    trainer(tmp_path, See(), max_steps=1).fit(made, datamodule=data)
    gold = {row.example_id: row.answer for row in data.examples["samples"]}
    assert len(gold) == 2
    (told,) = [row for row, text in seen.items() if text == "It is Rome."]
    assert all(text == gold[row] for row, text in seen.items() if row != told)


def test_bad_input() -> None:
    sources = [Source("builtin:forget")]
    with pytest.raises(InputError, match=r"`answer` should not be `student`"):
        ObjectiveData(sources, "decline", answer="student", prefills=Prefills(["Sure:"]))
    data = ObjectiveData(sources, "decline", answer="student", refresh_steps=0)
    with pytest.raises(InputError, match=r"`data.objectives.path.refresh_steps`"):
        UnlearnDataModule({"path": data})
