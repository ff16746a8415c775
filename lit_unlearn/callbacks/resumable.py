"""Resumable: a killed or stopped run resumes when its command is repeated."""

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO

from lit_unlearn.callbacks.end_order import CLEANUP
from lit_unlearn.callbacks.saved import STATE, UNFINISHED, Saved, read_saved, remove, seal
from lit_unlearn.distributed.ranks import gather
from lit_unlearn.errors import check_number
from lit_unlearn.utils.disk import refusal
from lit_unlearn.utils.locks import Lock, take_lock
from lit_unlearn.utils.ownership import free_name

__all__ = ["LOCK", "Resumable"]

log = logging.getLogger(__name__)

LOCK = ".lock"
_PARTS = ".part_[0-9]*"
"""Checkpoints that a killed process did not finish."""


class Resumable(Callback):
    """Checkpoints from which a run resumes after it was killed or stopped.

    `lit-unlearn fit` always has this callback. The folder `unfinished` in the run's folder holds
    the checkpoints, from which the same command resumes; they are deleted when the run has ended.
    Those of other settings are moved aside, to `unfinished.1` and so on, and never deleted. If
    there is a checkpoint, another is written before the last step, so that a kill after training
    (evaluation, export) costs one step. After Ctrl-C or SIGTERM the step is finished, a checkpoint
    is written, and the process ends with status 130 or 143; a second signal ends it at once.
    Losses, weights and curves equal those of a run that was never stopped.

    Args:
        every_minutes: Minutes between checkpoints, by the monotonic clock; null for none.
        every_n_steps: Steps between further checkpoints; null for none.
        keep: Number of checkpoints to keep; the newest undamaged one is used.
    """

    end_order = CLEANUP

    def __init__(
        self, every_minutes: float | None = 10, every_n_steps: int | None = None, keep: int = 1
    ) -> None:
        check_number("every_minutes", every_minutes, 0, above=True)
        check_number("every_n_steps", every_n_steps, 1)
        check_number("keep", keep, 1)
        self.every_minutes, self.every_n_steps, self.keep = every_minutes, every_n_steps, keep
        self.settings = ""
        """Digest of the run's settings; a checkpoint with other settings is not used."""
        self._lock: Lock | None = None
        self._signal: int | None = None
        self._is_ending: Callable[[], bool] = lambda: False
        self._random: list[torch.Tensor] = []
        self._since = 0.0
        self._saved: list[Saved] = []

    # ------------------------------------------------------------------------------ one at a time

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            self.claim(Path(trainer.default_root_dir))

    def claim(self, root: Path) -> None:
        """Lock a run's folder for other processes."""
        if self._lock is None:
            self._lock = take_lock(root / LOCK, "run", again=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.release()

    def on_exception(self, *_: Any) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock; a new folder of a run that never began is removed."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # ------------------------------------------------------------------------------------- saving

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all processes, for dropout."""
        checkpoint["random_states"] = gather(torch.get_rng_state())

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the random states until training starts, since set-up may draw numbers too."""
        self._random = checkpoint.get("random_states", [])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random state, and handle signals."""
        if len(self._random) == trainer.world_size:
            torch.set_rng_state(self._random[trainer.global_rank].cpu())
        self._since = time.monotonic()
        self._saved = self._superseded(trainer) if trainer.is_global_zero else []
        self._signal = None
        self._is_ending = lambda: trainer.should_stop  # perhaps since the end of an epoch
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._noted)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Save if a checkpoint is due; the step before is done, and its figures are logged."""
        asked = any(gather(self._signal is not None))
        if asked or any(gather(self._is_due(trainer))):
            self._save(trainer)
        if asked:
            self._leave(trainer)
        if trainer.global_step == trainer.max_steps - 1:
            _end_at_once()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals end the process at once if the run ends: nothing is left to save."""
        if trainer.global_step < trainer.max_steps and not trainer.should_stop:
            return
        _end_at_once()
        if any(gather(self._signal is not None)):
            self._leave(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delete the checkpoints of this run; the other callbacks run before this one."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / UNFINISHED
        for saved in self._saved:
            remove(saved.folder)
        for place in {folder, *(saved.folder.parent for saved in self._saved)}:
            for part in place.glob(_PARTS):
                shutil.rmtree(part, ignore_errors=True)
            with suppress(OSError):  # something else is in it, or there is none
                place.rmdir()

    def _superseded(self, trainer: Trainer) -> list[Saved]:
        """Return the checkpoints that the next one supersedes; move those of other runs aside."""
        folder = Path(trainer.default_root_dir) / UNFINISHED
        given = Path(trainer.ckpt_path).resolve().parent if trainer.ckpt_path else None
        earlier, others = [], []
        for place in sorted(folder.glob("step_*")):
            saved = read_saved(place, digests=False)
            own = saved is not None and saved.settings == self.settings
            if saved is not None and own and saved.step <= trainer.global_step:
                earlier.append(saved)
            elif place.resolve() != given:
                others.append(place)
        if given is not None and given.parent != folder.resolve():
            saved = read_saved(given, digests=False)
            earlier += [saved] if saved is not None and saved.settings == self.settings else []
        if others:
            self._move_aside(folder, others)
        return sorted(earlier, key=lambda saved: saved.step)

    def _move_aside(self, folder: Path, places: list[Path]) -> None:
        """Move checkpoints from which this run does not resume into a folder of their own."""
        aside = free_name(folder)
        aside.mkdir()
        for place in places:
            place.rename(aside / place.name)
        log.warning(
            "%s: checkpoints of another run, or of other settings, were moved to %s; to go on from "
            "them, give the settings of that run, or --ckpt_path %s.",
            *(folder, aside, aside),
        )

    def _noted(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None or self._is_ending():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self._signal = number
        text = "\nlit-unlearn: will save and stop after this step; repeat to stop at once\n"
        os.write(2, text.encode())  # a handler may interrupt a print

    def _leave(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            last = self._saved[-1].step if self._saved else 0
            log.warning(
                "Stopped after step %d of %d, on request; the same command resumes after step %d.",
                *(trainer.global_step, trainer.max_steps, last),
            )
        raise SystemExit(128 + (self._signal or signal.SIGTERM))

    def _is_due(self, trainer: Trainer) -> bool:
        step, minutes = trainer.global_step, (time.monotonic() - self._since) / 60
        if step == 0 or (self._saved and self._saved[-1].step == step):
            return False
        if self.every_minutes is not None and minutes >= self.every_minutes:
            return True
        if self.every_n_steps is not None and step % self.every_n_steps == 0:
            return True
        return step == trainer.max_steps - 1 and bool(self._saved)

    def _save(self, trainer: Trainer) -> None:
        """Write a checkpoint; if the disk refuses it, training continues without one."""
        for logger in trainer.loggers:
            logger.save()
        folder = Path(trainer.default_root_dir) / UNFINISHED
        part = folder / f".part_{trainer.global_step}"
        usual = trainer.strategy.checkpoint_io
        try:
            if trainer.is_global_zero:
                for left in folder.glob(_PARTS):
                    shutil.rmtree(left)
                part.mkdir(parents=True)
            trainer.strategy.barrier("unfinished")
            trainer.strategy.checkpoint_io = _Straight()
            trainer.save_checkpoint(part / STATE, weights_only=False)
            if trainer.is_global_zero:
                version = getattr(trainer.logger, "version", None)
                self._saved.append(seal(part, trainer.global_step, self.settings, version))
        except Exception as error:
            reason = refusal(error)
            if reason is None or trainer.world_size > 1:  # the others wait for this process
                raise
            shutil.rmtree(part, ignore_errors=True)
            log.warning("%s: no checkpoint after step %d: %s", folder, trainer.global_step, reason)
            return
        finally:
            trainer.strategy.checkpoint_io = usual
            self._since = time.monotonic()
        for old in self._saved[: -self.keep]:
            remove(old.folder)
        trainer.strategy.barrier("unfinished")


def _end_at_once() -> None:
    """Let signals end the process: what follows is saved already, or is not saved at all."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Straight(TorchCheckpointIO):
    """Writer of a file without the copies that Lightning first makes in memory and in /tmp."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)
