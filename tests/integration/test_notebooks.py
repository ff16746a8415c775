"""The notebooks run from top to bottom, on the tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from lit_unlearn.__main__ import main
from tests.conftest import PROJECT
from tests.pictures import draw_nothing
from tests.processes import FORKED, command, forked

LEFT_OUT = [
    f"{part}.objectives.{name}"
    for part in ("data", "model")
    for name in ("adversarial", "neighbor")
]
SMALL = [f"--config={PROJECT / 'configs/smoke.yaml'}", *(f"--{key}=null" for key in LEFT_OUT)]
MEASURED = ["--batches=2", "--batch_tokens=[8]", "--transfer_batches=1", "--ahead=0.3"]
READING = PROJECT / "notebooks" / "studying_interference.ipynb"
TRAINING = sorted(set(READING.parent.glob("*.ipynb")) - {READING})


class _Shown(DisplayHook):
    """Keeps the forms in which the results of cells can be shown."""

    results: list[dict[str, Any]] = []  # noqa: RUF012 - traitlets owns the attributes of instances

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        self.results.append(format_dict)


class _Shell(InteractiveShell):
    """Runs cells as a kernel does, without a front end."""

    displayhook_class = _Shown
    display_pub_class = CapturingDisplayPublisher

    def enable_gui(self, gui: str | None = None) -> None:
        """Pictures are shown in the page; there is no window to start."""


def run(notebook: nbformat.NotebookNode, folder: Path) -> int:
    """Run the cells in this process; return how many pictures they have shown."""
    warnings.simplefilter("ignore")
    os.chdir(folder)
    sys.path.insert(0, "")
    shell = _Shell.instance()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source).raise_error()
    shown = [*_Shown.results, *(output["data"] for output in shell.display_pub.outputs)]
    return sum("image/png" in forms for forms in shown)


def check(path: Path, folder: Path, pictures: int) -> None:
    """Run a notebook in a process of its own, which has everything imported."""
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"

    def work() -> int:
        found = run(notebook, folder)
        assert found == pictures, f"{found} pictures"
        return 0

    assert forked(work) == 0


@FORKED
@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)`")  # lightning, torch 2.13
def test_interference_is_redrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a small run and a small measurement."""
    for name in ("run", "measured"):
        monkeypatch.setenv(f"LIT_UNLEARN_NOTEBOOK_{name.upper()}", str(tmp_path / name))
    fit = ["--trainer.max_steps=2", "--model.diagnostics_every=1", "--trainer.logger=false"]
    fit += ["--trainer.callbacks=[{class_path: GradientMonitor}]"]
    with monkeypatch.context() as patch:
        draw_nothing(patch)
        assert main(["fit", *SMALL, *fit, f"--trainer.default_root_dir={tmp_path / 'run'}"]) == 0
        assert main(["interference", *SMALL, *MEASURED, f"--output={tmp_path / 'measured'}"]) == 0
    check(READING, tmp_path, pictures=7)


@FORKED
@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_UNLEARN_NOTEBOOK_MODEL", "random-tiny")
    monkeypatch.setenv("LIT_UNLEARN_NOTEBOOK_STEPS", "3")
    monkeypatch.setenv("LIT_UNLEARN_NOTEBOOK_RUN", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", command)  # one of them runs commands
    check(path, tmp_path, pictures=2)
    assert (tmp_path / "report.html").exists()
