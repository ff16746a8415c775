"""Checks of the files that a command leaves behind, after a fault or at its end."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from lit_unlearn.callbacks.saved import UNFINISHED, read_saved

MINE = (
    "run/NOTES.txt", "run/model.bak/net.py", "run/.model.mine", "run/unfinished.mine/state.ckpt",
    "run/evaluation/mine.csv", "evaluation/store/mine.jsonl", "rewritten/mine.jsonl",
    "run/lightning_logs/mine.txt", "vector.mine/model.safetensors.index", "request/NOTES.txt",
    "request/rows.mine/a.jsonl", "request/run/model.mine/net.py",
)  # fmt: skip
"""Files of the user in the folders of results."""


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def put_mine(folder: Path) -> None:
    """Write files of the user into the folders of results."""
    for name in MINE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}", "utf-8")


def users_files(folder: Path) -> dict[str, str]:
    """Return the digests of all files of the user in a command's folder."""
    inputs = (*folder.glob("*.yaml"), *folder.glob("models/**/*"), *folder.glob("rows/*"))
    files = [file for file in (*inputs, *(folder / name for name in MINE)) if file.is_file()]
    return {str(file.relative_to(folder)): digest(file) for file in sorted(files)}


def check_files(folder: Path, mine: dict[str, str]) -> None:
    """Check that the files of the user are unchanged and that no other file is incomplete.

    Raises:
        RuntimeError: A file has changed or is incomplete.
    """
    changed = mine.items() ^ users_files(folder).items()
    if changed:
        raise RuntimeError(f"{folder}: files of the user have changed: {changed}")
    check_whole(folder)


def check_outcome(outcome: dict[str, Any], unbroken: dict[str, Any]) -> None:
    """Check that a result equals that of the unbroken run.

    Raises:
        RuntimeError: It differs.
    """
    for name, value in unbroken.items():
        if outcome.get(name) != value:
            raise RuntimeError(f"{name} differ: {outcome.get(name)} and, unbroken, {value}")


def check_whole(folder: Path) -> None:
    """Check that every file and folder with its final name is complete.

    Raises:
        RuntimeError: A file or folder is incomplete.
    """
    for file in _final(folder):
        try:
            _READERS.get(file.suffix, Path.stat)(file)
        except Exception as error:
            raise RuntimeError(f"{file} is half: {error}") from error
    for saved in folder.rglob(f"{UNFINISHED}/step_*"):
        if read_saved(saved) is None:
            raise RuntimeError(f"{saved} is half")
    for model in (folder / "run" / "model", folder / "request/run/model", folder / "vector"):
        if model.exists() and not (model / "README.md").exists():
            raise RuntimeError(f"{model} is half")


def left_behind(folder: Path) -> list[Path]:
    """Return the temporary files and folders that are still there."""
    return [*folder.rglob(".*.part*"), *folder.rglob(".part_*")]


def _read_lines(file: Path) -> None:
    if file.name not in ("outcomes.jsonl", "journal.jsonl", "replies.jsonl"):
        for line in filter(None, file.read_text("utf-8").split("\n")):
            json.loads(line)  # the other files may end with an incomplete line


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda file: json.loads(file.read_text("utf-8")),
    ".jsonl": _read_lines,
    ".yaml": lambda file: yaml.safe_load(file.read_text("utf-8")),
    ".safetensors": load_file,
}


def _final(folder: Path) -> Iterator[Path]:
    """Yield the files that the package wrote, except temporary ones."""
    for file in folder.rglob("*"):
        inside = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if file.is_file() and not hidden and str(inside) not in MINE:
            yield file
