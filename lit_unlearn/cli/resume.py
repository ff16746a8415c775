"""Resume an interrupted run by repeating its command."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from lit_unlearn.callbacks import Resumable
from lit_unlearn.callbacks.saved import Saved, find_saved
from lit_unlearn.cli.config import read_dumped
from lit_unlearn.cli.run_files import as_list, is_first, paths_of
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.utils.digests import file_digest, text_digest
from lit_unlearn.utils.tables import terminal

__all__ = ["CHANGES_WEIGHTS", "NEUTRAL", "make_resumable", "run_logger", "run_settings"]

_COUNTED = ("limit_train_batches", "max_epochs", "max_steps", "precision")
"""Settings of the trainer on which the results of a run depend; all others are ignored."""

CHANGES_WEIGHTS = (
    "BatchSizeFinder",
    "EMAWeightAveraging",
    "GradientAccumulationScheduler",
    "LearningRateFinder",
    "ModelPruning",
    "StochasticWeightAveraging",
    "WeightAveraging",
)
"""Callbacks of Lightning that change weights; all others only show, save or stop."""

NEUTRAL = (
    "data.data_root",
    "data.micro_batch_rows",
    "data.num_workers",
    "data.validation_batch_size",
    "model.diagnostics",
    "model.diagnostics_every",
    "model.student.activation_checkpointing",
    "model.student.cache_trunk",
    "model.student.compile",
    "model.teacher.init_args.cache",
    "model.validation",
)
"""Settings of `model` and `data` that change results at most by rounding.

A run can resume from a checkpoint whose run differs only in these or in ignored settings of the
trainer.
"""


def make_resumable(
    trainer: dict[str, Any], settings: str, given: str | None, closing: ExitStack
) -> Saved | None:
    """Let a run save checkpoints, and find the checkpoint from which it resumes.

    `trainer` are the trainer's arguments, with the run's folder and a list of callbacks, which gets
    a `Resumable`. `settings` is a digest from `run_settings`. If the user named a checkpoint
    (`given`), no other is searched. `closing` releases the folder, also if the run is refused.

    Raises:
        InputError: The checkpoint is damaged, another run uses the folder, or the folder cannot be
            written to.
    """
    callbacks = trainer["callbacks"]
    if not any(isinstance(callback, Resumable) for callback in callbacks):
        callbacks.append(Resumable())
    root, first = Path(trainer["default_root_dir"]), is_first()
    for callback in callbacks:
        if isinstance(callback, Resumable):
            callback.settings = settings
            if first:
                callback.claim(root)
                closing.callback(callback.release)
    # all other callbacks finish a step, and the run, before this one records that as done
    callbacks.sort(key=lambda callback: isinstance(callback, Resumable))
    saved = None if given is not None else find_saved(root, settings)
    if saved is not None and first:
        steps = trainer.get("max_steps") or 0
        terminal(stderr=True).print(
            f"Resuming after step {saved.step}{f' of {steps}' * (steps > 0)}, from {saved.folder}; "
            "to start from the beginning, delete that folder",
            soft_wrap=True,
        )
    return saved


def run_logger(root: str, saved: Saved | None) -> TensorBoardLogger:
    """Return TensorBoard's logger; for a resumed run it hides points after the checkpoint."""
    resumed: dict[str, Any] = {}
    if saved is not None and saved.log_version is not None:
        # points that are measured after the checkpoint's last step have the number of that step
        resumed = {"version": saved.log_version, "purge_step": saved.step + 1}
    return TensorBoardLogger(root, default_hp_metric=False, **resumed)


def run_settings(text: str) -> str:
    """Return a digest of the settings in YAML on which the results of a run depend.

    Local files are replaced by digests of their content, so that their location does not matter.
    """
    values: dict[str, Any] = read_dumped(text)
    trainer = values.get("trainer") or {}
    kept = {key: values.get(key) for key in ("model", "data", "seed_everything")}
    contents: dict[str, str | None] = {key: _content(path) for key, path in paths_of(kept)}
    for key, content in (contents | dict.fromkeys(NEUTRAL)).items():
        _replace(kept, key.split("."), content)
    kept |= {key: trainer.get(key) for key in _COUNTED}
    kept["callbacks"] = [each for each in as_list(trainer.get("callbacks")) if _changes(each)]
    return text_digest(repr(kept))


def _content(path: Path) -> str:
    """Return a digest of a file or of the model in a folder; for other folders, the name."""
    if path.is_file() and path.suffix != ".gguf":
        return file_digest(path)
    weights = path.is_file() or any(path.glob("*.safetensors")) or any(path.glob("*.bin"))
    return fingerprint(str(path)) if weights else path.name


def _replace(values: Any, keys: Sequence[str], value: object) -> None:
    for key in keys[:-1]:
        if not isinstance(values, dict | list):
            return
        values = values[int(key)] if isinstance(values, list) else values.get(key)
    if isinstance(values, list):
        values[int(keys[-1])] = value
    elif isinstance(values, dict) and keys[-1] in values:
        values[keys[-1]] = value


def _changes(callback: Any) -> bool:
    name = callback.get("class_path", "") if isinstance(callback, dict) else str(callback)
    return name.rpartition(".")[2] in CHANGES_WEIGHTS
