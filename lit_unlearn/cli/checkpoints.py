"""The checkpoint that `--ckpt_path` names: a file, a folder, `last` or `best`."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lit_unlearn.callbacks.saved import (
    STATE,
    UNFINISHED,
    check_checkpoint,
    newest_saved,
    read_saved,
)
from lit_unlearn.cli.run_files import as_list, is_first
from lit_unlearn.errors import InputError
from lit_unlearn.utils.paths import local_path

__all__ = ["find_given", "resolve_checkpoint"]

_SLICES = "meta.pt"
"""File in a folder that is one checkpoint, in slices."""


def find_given(options: Any) -> None:
    """Find the checkpoint that the user named, and check it; loading it must not run code.

    The options of ``fit`` or ``test`` get the path of the checkpoint, and `weights_only` unless the
    user set it.
    """
    if options.get("weights_only") is None:
        options["weights_only"] = True
    name = str(options.get("ckpt_path") or "")
    options["ckpt_path"] = name or None
    if not name or name == "hpc" or name.startswith("registry") or "://" in name:
        return
    root = local_path(options.trainer.default_root_dir)
    callbacks = [c for c in as_list(options.trainer.get("callbacks")) if not isinstance(c, str)]
    folders = [(each.get("init_args") or {}).get("dirpath") for each in callbacks]
    found = resolve_checkpoint(name, root, [local_path(folder) for folder in folders if folder])
    options["ckpt_path"] = None if found is None else str(found)
    if str(found) != name and is_first():
        text = f"is {found}" if found else f"names none: there is no checkpoint in {root} yet"
        print(f"--ckpt_path {name} {text}.", file=sys.stderr)
    if found is not None and options["weights_only"]:
        check_checkpoint(found)


def resolve_checkpoint(name: str, root: Path, folders: Iterable[Path] = ()) -> Path | None:
    """Return the file (or folder of slices) that `--ckpt_path` names, or None.

    The name is a path; or `last` for the newest checkpoint of the run, None if there is none yet
    (as in a job that is submitted repeatedly); or `best` for the best one of a `ModelCheckpoint`.
    `last` and `best` are searched in the folder of the run and in those of its callbacks.

    Raises:
        InputError: The path does not exist or has no checkpoint, or no `best` is found.
    """
    if name == "last":
        return _last([root, *folders])
    if name == "best":
        return _best(root, folders)
    path = local_path(name)
    if not path.exists():
        raise InputError(f"--ckpt_path {name}: no such file or folder")
    if path.is_file() or (path / _SLICES).is_file():
        return path
    if (saved := read_saved(path)) is not None:
        return saved.state
    found = _last([path])
    if found is None:
        raise InputError(
            f"--ckpt_path {name} should be a checkpoint, or a folder with one in it. Found none in "
            f"this folder; a run's folder has its checkpoints in {UNFINISHED} or lightning_logs."
        )
    return found


def _last(folders: list[Path]) -> Path | None:
    """Return the newest checkpoint of the last run, by its step, not by the clock.

    The folder may hold checkpoints of earlier runs. The last run is the unfinished one, or else the
    one with the highest version of the logger.
    """
    saved = newest_saved(folders[0] / UNFINISHED) or newest_saved(folders[0])
    found = [(_rank(path), path) for path in _files(folders)]
    if saved is not None:
        same = [(rank, path) for rank, path in found if rank[0] == saved.log_version]
        best = max(same, default=None)
        return best[1] if best is not None and best[0][1] > saved.step else saved.state
    return max(found)[1] if found else None


def _best(root: Path, folders: Iterable[Path]) -> Path:
    """Return the checkpoint that the newest checkpoint records as the best.

    It is found by its file name, since the folder of a run may have been moved.
    """
    newest = _last([root, *folders])
    states = [] if newest is None else _head(newest).get("callbacks", {}).values()
    best = [s for s in states if isinstance(s, Mapping) and s.get("best_model_path")]
    for state in sorted(best, key=lambda each: each.get("monitor") is None):  # by a figure first
        name = Path(state["best_model_path"]).name
        same = [file for file in _files([root, *folders]) if file.name == name]
        if same:
            return max(same, key=_rank)
    raise InputError(
        f"--ckpt_path best should be the best checkpoint of a ModelCheckpoint. Found none in "
        f"{root}; name a file, or use --ckpt_path last."
    )


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the checkpoints of `ModelCheckpoint` in some folders and all below them."""
    for folder in folders:
        for path in sorted(folder.rglob("*.ckpt")):
            if path.name != STATE and (path.is_file() or (path / _SLICES).is_file()):
                yield path


def _rank(path: Path) -> tuple[int, int, str]:
    """Return version of the logger (-1 for none), step and name of a checkpoint."""
    versions = re.findall(r"(?:^|/)version_(\d+)(?=/)", path.as_posix())
    step = int(_head(path).get("global_step", -1))
    return int(versions[-1]) if versions else -1, step, path.name


def _head(path: Path) -> dict[str, Any]:
    """Return a checkpoint without its weights; empty if it cannot be loaded safely."""
    file = path / _SLICES if path.is_dir() else path
    try:
        found: dict[str, Any] = torch.load(file, map_location="meta", weights_only=True)
    except Exception:  # damaged archives raise errors of every kind
        return {}
    return found
