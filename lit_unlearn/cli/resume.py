"""Resume an interrupted run by repeating its command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_unlearn.callbacks import Resumable
from lit_unlearn.callbacks.saved import Saved, check_checkpoint, find_saved
from lit_unlearn.errors import InputError
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.tables import terminal

__all__ = ["check_given", "make_resumable", "run_logger", "run_settings"]

_OF_A_RUN = ("max_steps", "precision")
"""Settings of the trainer on which the results of a run depend."""


def check_given(options: Any) -> None:
    """Check that the checkpoint that the user named can be loaded; loading may run no code.

    Args:
        options: Options of ``fit`` or ``test``; `weights_only` is set where the user did not.

    Raises:
        InputError: It does not exist, is damaged, or is no checkpoint.
    """
    name = str(options.get("ckpt_path") or "best")
    if options.get("weights_only") is None:
        options["weights_only"] = True
    if name in ("best", "last", "hpc") or name.startswith("registry") or "://" in name:
        return
    if not Path(name).exists():
        raise InputError(f"--ckpt_path {name}: no such file or folder")
    if options["weights_only"]:
        check_checkpoint(Path(name))


def make_resumable(trainer: dict[str, Any], settings: str, given: str | None) -> Saved | None:
    """Let a run save itself, and find the checkpoint from which it resumes.

    Args:
        trainer: Its arguments; gets a `Resumable` and, unless the config has a logger, one that
            goes on with the run's curves.
        settings: Digest from `run_settings`.
        given: The checkpoint that the user named; then nothing is looked for.

    Raises:
        InputError: The run was not finished and its checkpoint is damaged, or another one is at
            work in its folder, or nothing can be written there.
    """
    callbacks = trainer["callbacks"] = _listed(trainer.get("callbacks"))
    if not any(isinstance(callback, Resumable) for callback in callbacks):
        callbacks.append(Resumable())
    root, first = Path(trainer.get("default_root_dir") or Path.cwd()), _is_first()
    for callback in callbacks:
        if isinstance(callback, Resumable):
            callback.settings = settings
            if first:
                callback.claim(root)
    # the others do what they do after a step, and at the end, before this one counts it as done
    callbacks.sort(key=lambda callback: isinstance(callback, Resumable))
    saved = None if given is not None else find_saved(root, settings)
    if saved is not None and first:
        terminal(stderr=True).print(
            f"Going on after step {saved.step} of {trainer.get('max_steps')}, from {saved.folder}; "
            "to begin anew, delete that folder",
            soft_wrap=True,
        )
    return saved


def run_logger(root: str | Path | None, saved: Saved | None) -> TensorBoardLogger:
    """Return TensorBoard's logger; of a resumed run it hides curves behind the checkpoint."""
    place = str(root or Path.cwd())
    if saved is None or saved.log_version is None:
        return TensorBoardLogger(place, default_hp_metric=False)
    # what was measured after the checkpoint's last step has that step's number
    return TensorBoardLogger(
        place, version=saved.log_version, default_hp_metric=False, purge_step=saved.step + 1
    )


def run_settings(text: str) -> str:
    """Return a digest of the settings in YAML on which the results of a run depend."""
    values: dict[str, Any] = yaml.safe_load(text)
    trainer = values.get("trainer", {})
    kept = {key: values.get(key) for key in ("model", "data", "seed_everything")}
    kept |= {key: trainer.get(key) for key in _OF_A_RUN}
    return text_digest(repr(kept))


def _is_first() -> bool:
    return getattr(rank_zero_only, "rank", 0) in (None, 0)


def _listed(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return callbacks if isinstance(callbacks, list) else [callbacks]
