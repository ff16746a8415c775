"""Checkpoints of unfinished runs: each a folder that is whole or not there, with digests."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_unlearn.errors import InputError
from lit_unlearn.utils.files import write_text

UNFINISHED = "unfinished"
"""Folder in a run's folder; a run that has ended has none."""
STATE, MANIFEST = "state.ckpt", "manifest.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written to its end."""

    folder: Path
    step: int
    """Optimizer steps that were done."""
    settings: str
    """What the run was set to; another text is another run."""
    log_version: str | int | None = None
    """The logger's name for the run, under which its curves go on."""

    @property
    def state(self) -> Path:
        """What Lightning loads: a file, or a folder of shards."""
        return self.folder / STATE


def seal(part: Path, step: int, settings: str, log_version: str | int | None) -> Saved:
    """Give a written checkpoint its digests and its name, from which it counts.

    Args:
        part: Folder with the state in it, under a name that nobody reads.
        step: See `Saved`, as for the others.
        settings: Of the run.
        log_version: Of the logger.
    """
    saved = Saved(part.with_name(f"step_{step}"), step, settings, log_version)
    files = {str(file.relative_to(part)): _digest(file) for file in _files(part)}
    content = {"step": step, "settings": settings, "log_version": log_version, "files": files}
    write_text(part / MANIFEST, json.dumps({"content": content, "sha256": _sum(content)}, indent=1))
    shutil.rmtree(saved.folder, ignore_errors=True)
    part.replace(saved.folder)
    return saved


def find_saved(root: Path, settings: str = "") -> Saved | None:
    """The newest whole checkpoint of an unfinished run, or None.

    Args:
        root: The run's folder.
        settings: What the run is set to; a checkpoint of another run is not used.

    Raises:
        InputError: There are checkpoints, and none is as it was written.
    """
    found = sorted((root / UNFINISHED).glob("step_*"), key=_number, reverse=True)
    for folder in found:
        saved = read_saved(folder)
        if saved is None:
            log.warning("%s: not as it was written, by its SHA-256; not used.", folder)
        elif saved.settings != settings:
            log.warning("%s: of a run with other settings, which this one replaces.", folder)
            return None
        else:
            return saved
    if found:
        raise InputError(
            f"{root / UNFINISHED}: expected a checkpoint as it was written, by its SHA-256, found "
            "it damaged; delete the folder, and the same command begins anew"
        )
    return None


def read_saved(folder: Path, *, digests: bool = True) -> Saved | None:
    """A checkpoint, or None where anything in it is not as it was written."""
    try:
        entry: Any = json.loads((folder / MANIFEST).read_bytes())
        content = entry["content"]
        whole = entry["sha256"] == _sum(content) and all(
            _same(folder / name, size, digest, digests)
            for name, (size, digest) in content["files"].items()
        )
        version = content["log_version"]
        return Saved(folder, content["step"], content["settings"], version) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def check_checkpoint(path: Path) -> None:
    """See that a file is a checkpoint of Lightning, without loading weights or running code.

    Args:
        path: A file; the folders of sharded checkpoints are left to their reader.

    Raises:
        InputError: It is none, is cut off, or holds more than tensors and plain values.
    """
    if not path.is_file():
        return
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
        lacks = [key for key in ("state_dict", "loops") if key not in content]
        found = f"a file without {lacks[0]}" if lacks else ""
    except pickle.UnpicklingError as error:
        found = f"what only running code could load ({_first_line(error)})"
    except Exception as error:  # damaged archives raise errors of every kind
        found = f"a damaged file ({_first_line(error)})"
    if found:
        raise InputError(
            f"--ckpt_path {path}: expected a checkpoint of Lightning with tensors and plain "
            f"values, found {found}; give another one"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _digest(file: Path) -> tuple[int, str]:
    with file.open("rb") as content:
        os.fsync(content.fileno())
        return file.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest()


def _same(file: Path, size: int, digest: str, digests: bool) -> bool:
    if file.stat().st_size != size:
        return False
    return not digests or _digest(file)[1] == digest


def _sum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
