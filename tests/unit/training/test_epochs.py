"""Epochs: their length, the number of steps of a run, and runs that resume in or between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.epochs import EpochSteps, run_steps
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import LoRA
from lit_unlearn.planning.plan import TrainerSettings
from lit_unlearn.training.setup.checks import check_length
from tests.small_runs import Recorder, data_module, losses, module, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks"),
]

EPOCH = 3
"""Steps of an epoch of the small runs: five rows, two a step."""


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 2}, 6),
        ({"max_epochs": 2, "max_steps": 5}, 5),
        ({"max_epochs": 1, "max_steps": 5}, 3),
        ({"max_epochs": -1, "max_steps": 5}, 5),
        ({"max_epochs": 2, "limit_train_batches": 2}, 4),
        ({"max_epochs": 2, "limit_train_batches": 0.67}, 4),
        ({"max_epochs": -1}, 0),
    ],
)
def test_steps_of_a_run(settings: dict[str, Any], steps: int) -> None:
    assert run_steps(TrainerSettings(**settings), EPOCH) == steps


def test_without_rows_the_steps_of_epochs_are_unknown() -> None:
    assert run_steps(TrainerSettings(max_epochs=2), 0) == 0
    assert run_steps(TrainerSettings(max_epochs=2, max_steps=5), 0) == 5
    assert data_module().epoch_steps() == 0


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"max_steps": 0}, "max_steps.*0"), ({}, "-1 and None"), ({"max_epochs": 0}, "max_epochs.*0")],
)
def test_a_run_without_a_length_is_refused(settings: dict[str, int], found: str) -> None:
    check_length(TrainerSettings(max_epochs=1))
    with pytest.raises(InputError, match=found):
        check_length(TrainerSettings(**settings))


@pytest.mark.parametrize(
    ("epoch", "steps"), [(None, 3), ("adversarial", 5), ("retain", 3), ("neighbor", 5), (4, 4)]
)
def test_length_of_an_epoch(epoch: int | str | None, steps: int) -> None:
    rows = data_module(epoch=epoch)
    rows.setup("fit")
    assert rows.epoch_steps() == steps


def test_an_epoch_without_an_objective_that_declines_is_one_of_the_first() -> None:
    one = ObjectiveData([Source("builtin:general", split="train", limit=5)], "answer", rows=2.5)
    assert UnlearnDataModule({"retain": one}).epoch == "retain"


def test_an_epoch_of_another_objective_is_refused() -> None:
    with pytest.raises(InputError, match=r"`data.epoch`.*'retian'; did you mean retain"):
        data_module(epoch="retian")
    with pytest.raises(InputError, match=r"data.epoch"):
        data_module(epoch=0)


class At:
    """A trainer at a step."""

    def __init__(self, step: int, limit: float = 1.0) -> None:
        self.global_step, self.limit_train_batches = step, limit


def test_steps_of_an_epoch() -> None:
    assert list(EpochSteps(At(4), 3, 8)) == [4, 5]
    assert list(EpochSteps(At(6), 3, 8)) == [6, 7]
    assert list(EpochSteps(At(2, 2), 3, 8)) == [2, 3]
    assert [len(EpochSteps(At(0, limit), 3, 2)) for limit in (1.0, 2)] == [2, 3]


class Epochs(Recorder):
    """Notes where the trainer stands at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[Any, ...]] = []
        self.starts: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.starts.append(trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        loop = trainer.fit_loop
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        counts = (loop.total_batch_idx, loop.epoch_loop._batches_that_stepped)
        self.places.append((trainer.current_epoch, index, *counts, trainer.is_last_batch, rate))


class Between(Callback):
    """Writes a checkpoint before a step, as `Resumable` does."""

    def __init__(self, file: Path, step: int) -> None:
        self.file, self.step = file, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.random = torch.get_rng_state()
            trainer.save_checkpoint(self.file)


class Same(Callback):
    """Begins with a given state of dropout's generator."""

    def __init__(self, random: torch.Tensor) -> None:
        self.random = random

    def on_train_start(self, *_: Any) -> None:
        torch.set_rng_state(self.random)


def run(folder: Path, *callbacks: Callback, resume: Path | None = None, **options: Any) -> Epochs:
    torch.manual_seed(0)
    noted = Epochs()
    model = module(lora=LoRA(dropout=0.5), lr_schedule="linear", diagnostics_every=0)
    epoch = options.pop("epoch", None)
    trainer(folder, noted, *callbacks, **options).fit(
        model, datamodule=data_module(epoch=epoch), ckpt_path=resume
    )
    return noted


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Epochs, Path, list[Between]]:
    """Two epochs, with checkpoints before steps, after steps, and after epochs."""
    folder = tmp_path_factory.mktemp("epochs")
    between = [Between(folder / f"before_{step}.ckpt", step) for step in (1, 3, 4)]
    after = ModelCheckpoint(folder, "after_{step}", every_n_train_steps=1, save_top_k=-1)
    ends = ModelCheckpoint(folder, "end_{step}", every_n_epochs=1, save_top_k=-1)
    found = run(folder, *between, after, ends, max_epochs=2, enable_checkpointing=True)
    return found, folder, between


def test_two_epochs(whole: tuple[Epochs, Path, list[Between]]) -> None:
    """The learning rate falls to zero behind the last step, whose number `max_epochs` gives."""
    found, folder, _ = whole
    assert found.starts == [0, 3]
    assert [place[:5] for place in found.places] == [
        (step // EPOCH, step % EPOCH, step, step, step % EPOCH == 2) for step in range(6)
    ]
    assert [place[5] for place in found.places] == pytest.approx(
        [1e-2 * (6 - step) / 6 for step in range(6)]
    )
    assert {"end_step=3.ckpt", "end_step=6.ckpt"} == {f.name for f in folder.glob("end_*")}


@pytest.mark.parametrize("epoch", [None, 6])
def test_steps_are_those_of_one_long_epoch(
    tmp_path: Path, whole: tuple[Epochs, Path, list[Between]], epoch: int | None
) -> None:
    """Neither rows nor dropout know of epochs."""
    assert losses(run(tmp_path, max_steps=6, epoch=epoch)) == losses(whole[0])


@pytest.mark.parametrize(
    "name", ["before_1", "before_3", "before_4", "after_step=2", "after_step=3", "end_step=3"]
)
def test_resumed_in_or_between_epochs(
    tmp_path: Path, whole: tuple[Epochs, Path, list[Between]], name: str
) -> None:
    """Epochs, counts, learning rates and, where dropout's state was kept, losses are the same."""
    found, folder, between = whole
    step = int(name[-1])
    same = [Same(one.random) for one in between if one.file.stem == name]
    again = run(tmp_path, *same, max_epochs=2, resume=folder / f"{name}.ckpt")
    assert again.places == found.places[step:]
    begins = name in ("after_step=3", "end_step=3") or step < EPOCH
    assert again.starts == [EPOCH] * begins
    if same:
        assert losses(again) == losses(found)[step:]


def test_early_stopping_counts_each_figure_once(tmp_path: Path) -> None:
    """The loss never improves by 100: patience 4 lasts five steps, an epoch's end among them."""
    stopping = EarlyStopping("loss/retain", min_delta=100.0, patience=4)
    found = run(tmp_path, stopping, max_epochs=2)
    assert (len(found.records), stopping.wait_count) == (5, 4)
