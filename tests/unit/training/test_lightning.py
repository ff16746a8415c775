"""The tables of docs/lightning.md: what Lightning's callbacks, loggers and flags do here."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    LambdaCallback,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from lit_unlearn.errors import InputError
from lit_unlearn.training.run_checks import check_run
from tests.small_runs import Recorder, data_module, losses, module, trainer, weights

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "`isinstance\\(treespec, LeafSpec\\)`",
        "The number of training batches",
        "Using ModelCheckpoint with manual optimization",
        "You requested to overfit",
        "You're using the WeightAveraging callback",
    )
]

EPOCH = 3
"""Steps of an epoch of the small runs."""
ELSEWHERE = {
    "WeightAveraging": "tests/unit/callbacks/test_averaging.py",
    "StochasticWeightAveraging": "tests/unit/distributed/test_files.py",
    "GradientAccumulationScheduler": "tests/unit/training/test_run_checks.py",
    "BackboneFinetuning": "tests/unit/training/test_run_checks.py",
    "LearningRateFinder": "tests/unit/training/test_run_checks.py",
    "BatchSizeFinder": "tests/unit/training/test_run_checks.py",
    "TensorBoardLogger": "tests/unit/callbacks/test_callbacks.py",
    "ModelPruning": "tests/unit/training/test_run_checks.py",
    "accumulate_grad_batches": "tests/unit/training/test_run_checks.py",
    "gradient_clip_val": "tests/unit/training/test_run_checks.py",
    "use_distributed_sampler": "tests/unit/distributed/test_strategy.py",
}
"""Names of the tables whose tests are in other files."""


def test_every_name_of_the_tables_stands_in_a_test_file() -> None:
    """A reminder for new rows: whether the test is one of the row's sentence, it cannot say."""
    page = Path("docs/lightning.md").read_text("utf-8")
    names = [
        name
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert len(names) > 30
    own = Path(__file__).read_text("utf-8")
    for name in names:
        text = Path(ELSEWHERE[name]).read_text("utf-8") if name in ELSEWHERE else own
        assert name in text, name


def run(folder: Path, *callbacks: Callback, **options: Any) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder()
    recorder.model = module(diagnostics_every=0)  # type: ignore[attr-defined]
    options = {"max_epochs": 2} | options
    made = trainer(folder, recorder, *callbacks, **options)
    made.fit(recorder.model, datamodule=data_module())  # type: ignore[attr-defined]
    recorder.trainer = made  # type: ignore[attr-defined]
    return recorder


def steps(recorder: Any) -> int:
    return int(recorder.trainer.global_step)


class Shown(LambdaCallback):
    """Notes what the progress bar shows, an epoch at a time."""

    def __init__(self) -> None:
        super().__init__(on_train_epoch_end=self.note)
        self.epochs: list[tuple[int, int, int]] = []

    def note(self, trainer: Any, module: Any) -> None:
        bar = trainer.progress_bar_callback
        done = (
            bar.train_progress_bar if isinstance(bar, TQDMProgressBar) else bar.progress.tasks[-1]
        )
        count = done.n if isinstance(bar, TQDMProgressBar) else int(done.completed)
        self.epochs.append((trainer.current_epoch, count, int(done.total)))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Mapping[str, Any]]:
    """One run of two epochs with most of the callbacks."""
    folder = tmp_path_factory.mktemp("many")
    parts = {
        "best": ModelCheckpoint(
            folder,
            "best",
            monitor="loss/retain",
            save_top_k=1,
            save_last=True,
            every_n_train_steps=1,
        ),
        "rate": LearningRateMonitor("epoch"),
        "device": DeviceStatsMonitor(),
        "bar": TQDMProgressBar(),
        "shown": Shown(),
    }
    options: dict[str, Any] = {"enable_progress_bar": True, "enable_checkpointing": True}
    options |= {"logger": CSVLogger(folder, "", ""), "log_every_n_steps": 1, "profiler": "simple"}
    options |= {"detect_anomaly": True, "deterministic": True}
    options |= {"reload_dataloaders_every_n_epochs": 1}
    try:
        found = run(folder, *parts.values(), **options)
    finally:
        torch.use_deterministic_algorithms(False)
    return found, folder, parts


def test_the_best_and_the_last_checkpoint_are_kept(many: Any) -> None:
    found, folder, parts = many
    seen = [each["retain"] for each in losses(found)]
    assert float(parts["best"].best_model_score) == pytest.approx(min(seen))
    assert {file.name for file in folder.glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}


def test_scalars_have_step_and_epoch(many: Any) -> None:
    """The learning rate of LearningRateMonitor is logged at the beginning of each epoch."""
    _, folder, _ = many
    (file,) = folder.rglob("metrics.csv")
    rows = [*csv.DictReader(file.read_text("utf-8").splitlines())]
    logged = [(int(r["epoch"]), int(r["step"])) for r in rows if r["loss/forget"]]
    assert logged == [(step // EPOCH, step) for step in range(2 * EPOCH)]
    assert len([row for row in rows if row.get("lr-AdamW")]) == 2
    assert any(name.startswith("DeviceStatsMonitor") for name in rows[0])


def test_bars_show_epochs(many: Any, tmp_path: Path) -> None:
    whole = [(0, EPOCH, EPOCH), (1, EPOCH, EPOCH)]
    assert many[2]["shown"].epochs == whole
    rich = Shown()
    run(tmp_path, RichProgressBar(), rich, enable_progress_bar=True)
    assert rich.epochs == whole


def test_nothing_else_changes_the_run(many: Any, tmp_path: Path) -> None:
    """Reloaded loaders, anomaly detection and a profiler (SimpleProfiler) give the same losses."""
    options = {"profiler": "advanced"}  # AdvancedProfiler
    assert losses(run(tmp_path, **options)) == losses(many[0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_time": "00:01:00:00"}, 1),
        ({"max_time": "00:01:00:00", "min_steps": 4}, 4),
        ({"max_time": "00:01:00:00", "min_epochs": 1}, EPOCH),
        ({"max_steps": 4}, 4),
        ({"max_epochs": 1, "max_steps": 4}, EPOCH),
        ({"limit_train_batches": 1}, 2),
    ],
)
def test_where_training_ends(tmp_path: Path, options: dict[str, Any], expected: int) -> None:
    assert steps(run(tmp_path, LambdaCallback(on_train_batch_end=late), **options)) == expected


def late(trainer: Any, *_: Any) -> None:
    """Let hours pass in a step, for Lightning's Timer, which `max_time` adds."""
    for callback in trainer.callbacks:
        if isinstance(callback, Timer):
            callback._offset = 7200.0


def test_overfitted_steps_are_repeated(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def note(trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        seen.append([repr(one.student.input_ids.tolist()) for one in batch["forget"]])

    run(tmp_path, LambdaCallback(on_train_batch_end=note), overfit_batches=2)
    assert len(seen) == 4
    assert seen[:2] == seen[2:]
    assert seen[0] != seen[1]


def test_validation_by_epochs(tmp_path: Path) -> None:
    """`check_val_every_n_epoch` counts epochs, and EarlyStopping checks when it is due."""
    found: Any = run(tmp_path, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    assert found.model.validations == 1
    found = run(tmp_path, val_check_interval=1, max_epochs=1, num_sanity_val_steps=0)
    assert found.model.validations == EPOCH
    stop = EarlyStopping("val/loss/retain", stopping_threshold=1e9)
    assert steps(run(tmp_path, stop, num_sanity_val_steps=0)) == EPOCH


def test_averages_are_the_weights_at_the_end(tmp_path: Path) -> None:
    """The average begins with the weights after the first step, and a decay of 1 keeps them."""
    model, first = module(), list[torch.Tensor]()

    def keep(trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == 1:
            first.extend(weight.clone() for weight in weights(module))

    callbacks = [LambdaCallback(on_train_batch_end=keep), EMAWeightAveraging(decay=1.0)]
    trainer(tmp_path, *callbacks, max_steps=2).fit(model, datamodule=data_module())
    assert all(map(torch.equal, weights(model), first))


def test_a_run_without_a_number_of_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`trainer.max_steps` or `trainer.max_epochs`"):
        check_run(trainer(tmp_path, max_time="00:00:00:01"), module(), data_module())


def test_weights_and_biases_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    run(tmp_path, logger=logger, log_every_n_steps=1, max_epochs=1)
    assert [*tmp_path.glob("wandb/offline-run-*/*.wandb")]
