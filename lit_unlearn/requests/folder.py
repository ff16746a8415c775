"""Folder of a request: the names of its files, and the log of its steps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from lit_unlearn.utils.append_log import AppendLog
from lit_unlearn.utils.digests import file_digest, json_digest
from lit_unlearn.utils.ownership import MARKER

__all__ = ["RequestFolder", "Step", "StepLog", "content_digest", "read_steps"]


@dataclass(frozen=True)
class RequestFolder:
    """Paths of everything that belongs to one request."""

    root: Path

    @property
    def request(self) -> Path:
        """Copy of the request, as it was given."""
        return self.root / "request.yaml"

    @property
    def config(self) -> Path:
        """Config of the training run."""
        return self.root / "run.yaml"

    @property
    def rewriting(self) -> Path:
        """Folder of `rewrite`, which makes questions and neighbours."""
        return self.root / "rewriting"

    @property
    def rows(self) -> Path:
        """Folder of the rows for training."""
        return self.root / "rows"

    @property
    def battery(self) -> Path:
        """Folder of the questions before and after; holds the forgotten content."""
        return self.root / "battery"

    @property
    def before(self) -> Path:
        """Folder of the evaluation of the start model."""
        return self.root / "before"

    @property
    def run(self) -> Path:
        """Folder of the training run."""
        return self.root / "run"

    @property
    def model(self) -> Path:
        """Folder of the model after unlearning."""
        return self.run / "model"

    @property
    def after(self) -> Path:
        """Folder of the evaluation of the model after unlearning."""
        return self.root / "after"

    @property
    def verdict(self) -> Path:
        """Verdict, with the checks that led to it."""
        return self.root / "verdict.json"

    @property
    def manifest(self) -> Path:
        """Digests and figures for machines."""
        return self.root / "manifest.json"

    @property
    def dossier(self) -> Path:
        """Page for people."""
        return self.root / "dossier.html"

    @property
    def targets(self) -> list[Path]:
        """Files and folders that `erase` replaces, if they are its own."""
        files = [self.request, self.config, self.verdict, self.manifest, self.dossier]
        return [*files, self.rows, self.battery]

    @property
    def moved(self) -> list[Path]:
        """Other files and folders that it writes, or moves aside with all that is in them."""
        logs = [self.root / name for name in (StepLog.file_name, "salt.txt")]
        return [self.rewriting, self.before, self.run, self.after, *logs]

    def remove(self) -> None:
        """Remove all that `erase` writes, but for the lock and the folder; see `Lock.release`."""
        log_lock = (self.root / StepLog.file_name).with_suffix(".lock")
        for path in (*self.targets, *self.moved, log_lock, self.root / MARKER):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Step:
    """One step of a request, as the log has it."""

    state: Literal["started", "finished"]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> SHA-256 or text of everything on which the step depends."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Path in the request's folder -> `content_digest`; empty until the step is finished."""
    seconds: float = 0.0
    """Wall seconds of the command that finished the step."""


class StepLog(AppendLog[Step]):
    """The file ``steps.jsonl``: a line for the start and the end of each step, by its name."""

    file_name: ClassVar[str] = "steps.jsonl"
    user: ClassVar[str] = "erase"

    def encode(self, value: Step) -> dict[str, Any]:
        return asdict(value)

    def decode(self, fields: dict[str, Any]) -> Step:
        return Step(**fields)


def read_steps(root: Path) -> dict[str, Step]:
    """Return the latest state of each step of a request; empty without a log.

    Raises:
        InputError: The log is damaged, or another process writes to it.
    """
    if not (root / StepLog.file_name).is_file():
        return {}
    with StepLog(root) as log:
        return log.read()


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of all files in a folder.

    Markers of `ownership` do not count.
    """
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != MARKER)
    return json_digest({file.relative_to(path).as_posix(): file_digest(file) for file in files})
