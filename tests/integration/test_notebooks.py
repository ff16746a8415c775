"""The notebooks run from top to bottom, on the tiny model."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from lit_unlearn.__main__ import main

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


PROJECT = NOTEBOOKS.parent
SMALL = [f"--config={PROJECT / 'configs/smoke.yaml'}", "--data.objectives.adversarial.rows=1"]
MEASURED = ["--batches=2", "--batch_tokens=[8]", "--transfer_batches=1", "--ahead=0.3"]
READING = NOTEBOOKS / "studying_interference.ipynb"
TRAINING = sorted(set(NOTEBOOKS.glob("*.ipynb")) - {READING})


def pictures_of(notebook: nbformat.NotebookNode, folder: Path) -> int:
    """Run a notebook; how many pictures it has drawn."""
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Jupyter's own
@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)`")  # lightning, torch 2.13
def test_interference_is_redrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a small run and a small measurement."""
    for name in ("run", "measured"):
        monkeypatch.setenv(f"LIT_UNLEARN_NOTEBOOK_{name.upper()}", str(tmp_path / name))
    fit = ["--trainer.max_steps=2", "--model.diagnostics_every=1", "--trainer.logger=false"]
    fit += ["--trainer.callbacks=[{class_path: GradientMonitor}]"]
    assert main(["fit", *SMALL, *fit, f"--trainer.default_root_dir={tmp_path / 'run'}"]) == 0
    assert main(["interference", *SMALL, *MEASURED, f"--output={tmp_path / 'measured'}"]) == 0
    assert pictures_of(nbformat.read(READING, as_version=4), tmp_path) == 7


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Jupyter's own
@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_UNLEARN_NOTEBOOK_MODEL", "random-tiny")
    monkeypatch.setenv("LIT_UNLEARN_NOTEBOOK_STEPS", "3")
    monkeypatch.setenv("LIT_UNLEARN_NOTEBOOK_RUN", str(tmp_path))
    assert pictures_of(nbformat.read(path, as_version=4), tmp_path) == 2
    assert (tmp_path / "report.html").exists()
