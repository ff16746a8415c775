"""Validation: its figures, when it runs, what it leaves alone, and what callbacks do with it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.subjects import subject_of
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.answers import Answers
from lit_unlearn.evaluation.suites.common import probe_of
from lit_unlearn.evaluation.teacher_forced import force
from lit_unlearn.metrics.functional.likelihood import answer_probability, extraction_strength
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import CrossEntropy
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.validation import Validation, validated_rows
from tests.processes import FORKED, in_processes
from tests.small_runs import data_module, module, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
    "ignore:The dirpath has changed",  # checkpoints are read from another test's folder
    "ignore:Be aware that when using `ckpt_path`",
)
OWN = {"forget": "forget", "adversarial": "forget", "retain": "general"}
"""Objectives with validation rows of their own, and the built-in set of these."""
Figures = dict[str, float]


@dataclass
class Seen(Callback):
    """Keeps the figures of each validation."""

    figures: list[tuple[int, Figures]] = field(default_factory=list)
    batches: int = 0

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self.batches += 1

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.figures.append((trainer.global_step, figures(trainer)))


def figures(run: Trainer) -> Figures:
    return {n: float(v) for n, v in run.callback_metrics.items() if n.startswith("val/")}


def validated(**options: Any) -> Any:
    """The four objectives, three of them with three validation rows of their own."""
    data = data_module(validation_batch_size=2, **options)
    for name, rows in OWN.items():
        data.objectives[name].validation = [Source(f"builtin:{rows}", split="eval", limit=3)]
    return data


def replying(every: int = 2) -> Any:
    teacher = FrozenTeacher(cache=True)  # it must foresee the validation rows
    return module(teacher=teacher, validation=Validation(every, max_new_tokens=3))


@dataclass
class Run:
    model: Any
    data: Any
    run: Trainer
    seen: Seen


def run(folder: Path, model: Any, data: Any, *callbacks: Callback, **options: Any) -> Run:
    seen = Seen()
    options = {"max_steps": 4, "check_val_every_n_epoch": None, **options}
    made = trainer(folder, seen, *callbacks, **options)
    made.fit(model, datamodule=data)
    return Run(model, data, made, seen)


@pytest.fixture(scope="module")
def every_second(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four steps with a validation after the second and the last one, the first with replies."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("every_second")
    return run(folder, replying(), validated(), val_check_interval=2, num_sanity_val_steps=1)


def test_figures_are_those_of_the_objective_and_of_the_engine(every_second: Run) -> None:
    """On the trained weights; the gold answers stand behind the prefills of the rows."""
    model, data = every_second.model, every_second.data
    step, found = every_second.seen.figures[-1]
    assert step == 4
    encoder = Encoder(model.tokenizer, data.max_length, "warn", data.template)
    for name, rows in model.prepared.validation.items():
        assert len(rows) == 3
        values = []
        for batch in data.validation_batches(name, rows):
            with torch.no_grad():
                reader = ModelReader(model.student.eval())
                values.append(model.objectives[name](batch.rows, reader, model.teacher).values)
        assert found[f"val/loss/{name}"] == pytest.approx(float(torch.cat(values).mean()), rel=1e-5)
        prefills = [row.candidates[0].prefill for row in rows]
        assert bool(prefills[0]) == (name == "adversarial")
        probes = [
            probe_of(r.example, name, None, {"gold": r.example.answer}, prefill=p)
            for r, p in zip(rows, prefills, strict=True)
        ]
        forced = [each["gold"] for each in force(model.student, encoder, probes)]
        nll = [-sum(one.log_probs) / len(one.log_probs) for one in forced]
        assert found[f"val/answer_nll/{name}"] == pytest.approx(sum(nll) / 3, rel=1e-5)
        likely = [answer_probability(one.log_probs) for one in forced]
        assert found[f"val/probability/{name}"] == pytest.approx(sum(likely) / 3, rel=1e-4)
        extracted = [extraction_strength(one.hits) for one in forced]
        assert found[f"val/extraction_strength/{name}"] == pytest.approx(sum(extracted) / 3)


def test_replies_are_those_of_the_table_and_come_as_often_as_asked(
    every_second: Run, tmp_path: Path
) -> None:
    """Every second validation; on its own, each."""
    model, data, seen = every_second.model, every_second.data, every_second.seen
    assert model.validations == 2
    assert [bool({"val/refused/forget"} & {*names}) for _, names in seen.figures] == [True, True]
    logged = every_second.run.logged_metrics
    assert "val/loss/forget" in logged
    alone = trainer(tmp_path)
    alone.validate(model, datamodule=data, verbose=False)
    rows = {name: [row.example for row in own] for name, own in model.prepared.validation.items()}
    del rows["adversarial"]  # the table has prefills of its own
    table = run_suite(Answers(rows, {}, 3), subject_of(model.student, model.tokenizer, "tiny"))
    for wanted in table.figures:
        name, score = wanted.name.split("/")
        if score != "answer_nll" and not math.isnan(wanted.value):
            assert figures(alone)[f"val/{score}/{name}"] == pytest.approx(wanted.value)


def test_sanity_check_and_intervals(every_second: Run) -> None:
    """One batch of three objectives before training; then two validations of two batches each."""
    assert every_second.seen.batches == 3 * (1 + 2 + 2)
    assert [step for step, _ in every_second.seen.figures] == [2, 4]


def test_training_goes_on_as_if_nothing_had_been_validated(
    every_second: Run, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    plain = run(tmp_path, replying(), validated(), limit_val_batches=0)
    assert plain.seen.batches == 0
    for one, other in zip(
        plain.model.parameters_trained, every_second.model.parameters_trained, strict=True
    ):
        assert torch.equal(one, other)


def test_nothing_is_validated_unless_something_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flag of the trainer asks; without rows of their own all objectives' training rows count."""
    plain = run(tmp_path / "plain", module(), data_module(), max_steps=1, check_val_every_n_epoch=1)
    assert plain.seen.figures == []
    assert "Validation" not in caplog.text
    asked = run(tmp_path / "asked", module(), data_module(), max_steps=1, val_check_interval=1)
    assert "Validation reads the training rows" in caplog.text
    (only,) = asked.seen.figures
    assert {name.rpartition("/")[2] for name in only[1]} == {*asked.data.objectives}
    assert [len(rows) for rows in asked.model.prepared.validation.values()] == [5, 5, 5, 5]


def test_an_interval_that_no_epoch_has_is_refused(tmp_path: Path) -> None:
    """Five rows to forget, two a step: an epoch has three steps."""
    made = trainer(tmp_path, max_steps=8, val_check_interval=4)
    with pytest.raises(InputError, match=r"at most the 3 steps of an epoch\. Found 4; set"):
        made.fit(module(), datamodule=validated())


def test_an_interval_may_be_a_time(tmp_path: Path) -> None:
    found = run(tmp_path, module(), validated(), val_check_interval=timedelta(0), max_steps=2)
    assert [at for at, _ in found.seen.figures][-2:] == [1, 2]
    assert validated_rows(found.run, found.data, 2) == {}


def test_processes_whose_clocks_differ_need_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(tmp_path, max_steps=2, val_check_interval=timedelta(0))
    monkeypatch.setattr(type(made), "world_size", 2)
    with pytest.raises(InputError, match=r"`trainer.val_check_interval` .* clocks differ"):
        made.fit(module(), datamodule=validated())


def test_rows_of_all_validations_are_foreseen(tmp_path: Path) -> None:
    """Three validations of one batch of two rows; of two thirds of three; one in two epochs."""
    data = validated()
    data.setup("fit")
    options: list[dict[str, Any]] = [
        {"val_check_interval": 2, "check_val_every_n_epoch": None, "limit_val_batches": 1},
        {"val_check_interval": 1.0, "limit_val_batches": 0.67},
        {"check_val_every_n_epoch": 2},
        {"limit_val_batches": 0},
    ]
    found = [
        validated_rows(trainer(tmp_path, max_steps=7, **given), data, 7).get("forget", 0)
        for given in options
    ]
    assert found == [3 * 2, 2 * 2, 1 * 3, 0]


# ------------------------------------------------------------------------- callbacks, and resume


def by_heart(folder: Path) -> tuple[Any, Any]:
    """One row, whose answer the tiny model knows by heart after some steps."""
    file = folder / "row.jsonl"
    file.write_text(json.dumps({"question": "Q", "answer": "a b c d e f"}), "utf-8")
    rows = [Source(str(file), domain="question_answer")]
    data = UnlearnDataModule({"forget": ObjectiveData(rows, "decline", 1, validation=rows)})
    model = UnlearnModule(
        ModelSource(TINY_NAME),
        {"forget": CrossEntropy()},
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2),
        diagnostics_every=0,
        validation=Validation(2, max_new_tokens=3),
    )
    return model, data


def stopping(folder: Path) -> tuple[EarlyStopping, ModelCheckpoint]:
    """Stop when the answer is known; keep what every validation saw, the best one known."""
    monitor = "val/extraction_strength/forget"
    stop = EarlyStopping(monitor, mode="max", patience=100, stopping_threshold=0.99)
    every = ModelCheckpoint(folder / "saved", "{step}", monitor, mode="max", save_top_k=-1)
    return stop, every


class Saving(Callback):
    """Saves a checkpoint between two validations."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 5:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "saved" / "step=5.ckpt")


OFTEN: dict[str, Any] = {"max_steps": 20, "val_check_interval": 2}
OFTEN |= {"check_val_every_n_epoch": None, "enable_checkpointing": True}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ModelCheckpoint]:
    """A run that stops when the answer is known."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("stopped")
    stop, best = stopping(folder)
    return run(folder, *by_heart(folder), Saving(), stop, best, **OFTEN), best


def test_extraction_strength_stops_the_run_and_chooses_the_best(
    stopped: tuple[Run, ModelCheckpoint], tmp_path: Path
) -> None:
    found, best = stopped
    strengths = [own["val/extraction_strength/forget"] for _, own in found.seen.figures]
    assert strengths[-1] >= 0.99 > max(strengths[:-1])
    last = 2 * len(strengths)
    assert 6 < found.run.global_step == last < 20
    assert Path(best.best_model_path).name == f"step={last}.ckpt"
    assert float(best.best_model_score) == strengths[-1]
    model, data = by_heart(tmp_path)
    alone = trainer(tmp_path)
    early = str(best.best_model_path).replace(f"step={last}", "step=2")
    alone.validate(model, data, ckpt_path=early, verbose=False)
    assert figures(alone) == found.seen.figures[0][1]


@pytest.mark.parametrize("step", [4, 5])
def test_a_resumed_run_goes_on_equally(
    stopped: tuple[Run, ModelCheckpoint], tmp_path: Path, step: int
) -> None:
    """From a checkpoint of a validation, which is not repeated, and from one between two."""
    whole_run, best = stopped
    path = Path(best.best_model_path).with_name(f"step={step}.ckpt")
    callbacks = stopping(tmp_path)
    seen = Seen()
    rest = trainer(tmp_path, seen, *callbacks, **OFTEN)
    rest.fit(*by_heart(tmp_path), ckpt_path=path)
    assert rest.global_step == whole_run.run.global_step
    expected = whole_run.seen.figures[2:]
    assert [at for at, _ in seen.figures] == [at for at, _ in expected]
    for (_, own), (_, unbroken) in zip(seen.figures, expected, strict=True):
        assert own == {name: unbroken[name] for name in own}
    replied = ["val/refused/forget" in own for _, own in seen.figures]
    assert replied[0]  # the third one; the second was without


# --------------------------------------------------------------------------------- two processes


def in_two(folder: Path, strategy: str, processes: int) -> list[tuple[int, Figures]]:
    torch.manual_seed(0)
    options = {"strategy": strategy, "devices": processes, "max_steps": 2}
    found = run(folder, replying(1), validated(), val_check_interval=1, **options)
    return found.seen.figures


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, Figures]]:
    return in_two(tmp_path_factory.mktemp("one"), "auto", 1)


@FORKED
@pytest.mark.parametrize(
    "strategy",
    ["fsdp2", pytest.param("ddp", marks=pytest.mark.slow)],  # the first has more parts
)
def test_as_one_process(alone: list[tuple[int, Figures]], tmp_path: Path, strategy: str) -> None:
    """The third row of each objective has one process alone."""
    assert len(alone) == 2
    for found in in_processes(
        2, lambda: in_two(tmp_path, strategy, 2), tmp_path / "out", start=False
    ):
        for (_, own), (_, expected) in zip(found, alone, strict=True):
            assert own == pytest.approx(expected, rel=1e-5, abs=1e-7)
