"""Checkpoints of unfinished runs: folders with digests, written completely or not at all."""

import logging
import pickle
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from lit_unlearn.errors import InputError
from lit_unlearn.utils.atomic import sync
from lit_unlearn.utils.digests import file_digest, read_checked_json, write_checked_json

__all__ = ["UNFINISHED", "Saved"]
__all__ += ["check_checkpoint", "find_saved", "newest_saved", "read_saved", "remove", "seal"]

UNFINISHED = "unfinished"
"""Folder of the checkpoints in a run's folder; a run that has ended has none."""
STATE, MANIFEST = "state.ckpt", "manifest.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """Checkpoint that was written completely."""

    folder: Path
    step: int
    """Number of optimizer steps that were done."""
    settings: str
    """Digest of the run's settings; a checkpoint with other settings is not used."""
    log_version: str | int | None = None
    """Version of the logger, under which its curves continue."""

    @property
    def state(self) -> Path:
        """Path that Lightning loads: a file, or a folder of shards."""
        return self.folder / STATE


def seal(part: Path, step: int, settings: str, log_version: str | int | None) -> Saved:
    """Write the digests of a checkpoint and give it its final name, so that a run can use it.

    ``part`` is the folder with the state, under a temporary name.
    """
    saved = Saved(part.with_name(f"step_{step}"), step, settings, log_version)
    files = {}
    for file in sorted(part.rglob("*")):
        if file.is_file():
            sync(file)
            files[str(file.relative_to(part))] = [file.stat().st_size, file_digest(file)]
    content = {"step": step, "settings": settings, "log_version": log_version, "files": files}
    write_checked_json(part / MANIFEST, content)
    remove(saved.folder)
    part.replace(saved.folder)
    return saved


def remove(folder: Path) -> None:
    """Delete a checkpoint, if it is there.

    It is renamed first, so that a process that is killed meanwhile leaves nothing that looks like a
    damaged checkpoint. The next one that writes here deletes what is left.
    """
    hidden = folder.with_name(f".part_{_step(folder)}.old")
    with suppress(OSError):
        folder.replace(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def find_saved(root: Path, settings: str = "") -> Saved | None:
    """Return the newest undamaged checkpoint of an unfinished run with these settings, or None.

    Checkpoints that were moved aside, because a run with other settings took the folder, count too.
    If all are damaged, this is an `InputError`.
    """
    damaged, others = [], 0
    for folder in sorted(root.glob(f"{UNFINISHED}*/step_*"), key=_step, reverse=True):
        place = re.fullmatch(rf"{UNFINISHED}(\.\d+)?", folder.parent.name)  # or moved aside
        saved = read_saved(folder) if place else None
        if saved is not None and saved.settings == settings:
            return saved
        if saved is None and folder.parent.name == UNFINISHED:
            log.warning("%s: damaged, as its SHA-256 shows; not used.", folder)
            damaged.append(folder)
        elif folder.parent.name == UNFINISHED:
            others += 1
    if damaged and not others:
        raise InputError(
            f"{root / UNFINISHED} should hold a checkpoint that agrees with its SHA-256. "
            "Found it damaged; delete the folder, and the same command starts from the beginning."
        )
    return None


def newest_saved(folder: Path) -> Saved | None:
    """Return the newest undamaged checkpoint in a folder `unfinished`, whatever its settings."""
    found = sorted(folder.glob("step_*"), key=_step, reverse=True)
    return next((saved for saved in map(read_saved, found) if saved is not None), None)


def read_saved(folder: Path, *, digests: bool = True) -> Saved | None:
    """Return a checkpoint, or None if it is damaged; compare digests, or only the files' sizes."""
    try:
        content = read_checked_json(folder / MANIFEST)
        for name, (size, digest) in content["files"].items():
            file = folder / name
            if file.stat().st_size != size or (digests and file_digest(file) != digest):
                return None
        return Saved(folder, content["step"], content["settings"], content["log_version"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def check_checkpoint(path: Path) -> None:
    """Check that a file is a checkpoint of Lightning, without loading weights or running code.

    It must be whole, and hold tensors and plain values alone. Folders of sharded checkpoints are
    not checked.
    """
    if not path.is_file():
        return
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
        keys = ("state_dict", "loops", "pytorch-lightning_version")
        lacks = [key for key in keys if key not in content]
        found = f"a file without {lacks[0]}" if lacks else ""
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"{name[1]}, which only running code could load" if name else "none"
    except Exception as error:  # damaged archives raise errors of every kind
        found = f"a damaged file ({_first_line(error)})"
    if found:
        raise InputError(
            f"--ckpt_path {path} should be a checkpoint of Lightning with tensors and plain "
            f"values. Found {found}; give another one."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _step(folder: Path) -> int:
    digits = folder.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1
