"""What `last`, `best` and a folder name, by steps and versions and never by the clock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_unlearn.callbacks.saved import STATE, UNFINISHED, seal
from lit_unlearn.cli.checkpoints import resolve_checkpoint
from lit_unlearn.errors import InputError


def save(path: Path, step: int, best: str = "", monitor: str | None = "loss") -> Path:
    """Write what stands in a checkpoint of Lightning beside the weights; later ones look older."""
    states = {"ModelCheckpoint": {"monitor": monitor, "best_model_path": best}} if best else {}
    content: dict[str, Any] = {"state_dict": {}, "loops": {}, "global_step": step}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "callbacks": states}, path)
    os.utime(path, (1e9 - step, 1e9 - step))
    return path


def unfinished(root: Path, step: int, version: int | None = None, best: str = "") -> Path:
    part = root / UNFINISHED / f".part_{step}"
    save(part / STATE, step, best)
    return seal(part, step, "settings", version).state


def test_the_last_of_a_finished_run(tmp_path: Path) -> None:
    """That of the highest version: an earlier run in the folder may have had more steps."""
    logs = tmp_path / "lightning_logs"
    save(logs / "version_2/checkpoints/last.ckpt", 400)
    save(logs / "version_10/checkpoints/a.ckpt", 5)
    last = save(logs / "version_10/checkpoints/b.ckpt", 10)
    assert resolve_checkpoint("last", tmp_path) == last
    assert resolve_checkpoint(str(tmp_path), Path("other")) == last
    assert resolve_checkpoint(str(logs / "version_2"), Path("other")).name == "last.ckpt"  # type: ignore[union-attr]


def test_the_last_of_an_unfinished_run(tmp_path: Path) -> None:
    save(tmp_path / "lightning_logs/version_2/checkpoints/last.ckpt", 400)
    unfinished(tmp_path, 8, 3)
    state = unfinished(tmp_path, 12, 3)
    assert resolve_checkpoint("last", tmp_path) == state
    later = save(tmp_path / "lightning_logs/version_3/checkpoints/last.ckpt", 13)
    assert resolve_checkpoint("last", tmp_path) == later
    for folder in (tmp_path / UNFINISHED, state.parent):
        assert resolve_checkpoint(str(folder), Path("other")) == state


def test_the_best_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    """Also where the newest checkpoint is that of an unfinished run."""
    folder = tmp_path / "elsewhere"
    best = save(folder / "step=3.ckpt", 3)
    save(folder / "step=4.ckpt", 4, "/gone/elsewhere/step=3.ckpt")
    assert resolve_checkpoint("best", tmp_path / "run", [folder]) == best
    other = save(folder / "step=2.ckpt", 2)
    unfinished(tmp_path / "run", 9, best="/gone/step=2.ckpt")
    assert resolve_checkpoint("best", tmp_path / "run", [folder]) == other


def test_slices_are_one_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "slices.ckpt" / "meta.pt", 3)
    assert resolve_checkpoint(str(tmp_path / "slices.ckpt"), tmp_path) == tmp_path / "slices.ckpt"
    assert resolve_checkpoint("last", tmp_path) == tmp_path / "slices.ckpt"


def test_there_is_none(tmp_path: Path) -> None:
    assert resolve_checkpoint("last", tmp_path / "run") is None
    (tmp_path / "damaged.ckpt").write_bytes(b"x")
    for name in ("best", str(tmp_path / "none"), "none.ckpt"):
        with pytest.raises(InputError, match="--ckpt_path"):
            resolve_checkpoint(name, tmp_path)
