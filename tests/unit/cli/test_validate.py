"""The page on validation: its config stops a run, and `lit-unlearn validate` finds its figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from lit_unlearn.__main__ import main
from tests.conftest import PROJECT

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings(
        "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
    ),
]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """The options of the page's commands, with the folder of the test."""
    page = (PROJECT / "docs" / "validation.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(# validated.yaml\n.*?)```", page, re.DOTALL)
    file = tmp_path / "validated.yaml"
    file.write_text(block, "utf-8")
    configs = [f"--config={path}" for path in (PROJECT / "configs" / "smoke.yaml", file)]
    return [*configs, f"--trainer.default_root_dir={tmp_path / 'run'}"]


def test_the_best_checkpoint_has_the_figures_that_chose_it(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The random model extracts nothing, so that EarlyStopping ends the run after two steps."""
    assert main(["fit", *options]) == 0
    assert caplog.text.count("Training ends after step 2 of 6: ") == 1
    (best,) = tmp_path.rglob("checkpoints/*.ckpt")
    saved = torch.load(best, weights_only=True)
    assert saved["global_step"] == 2
    (score,) = (s["best_model_score"] for n, s in saved["callbacks"].items() if "Model" in n)
    assert "Validation: forget: 4 rows; retain: 2 rows" in capsys.readouterr().err
    assert main(["validate", *options, "--ckpt_path=best"]) == 0
    printed = capsys.readouterr().out
    assert f"{float(score):.4g}" in printed
    for part in ("figure", "extraction_strength", "refused", "forget", "retain"):
        assert part in printed
    assert "DataLoader" not in printed


def test_a_mistyped_monitor_is_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    best = "--trainer.callbacks+=ModelCheckpoint"
    monitor = "--trainer.callbacks.monitor=val/extraction_strenth/forget"
    assert main(["fit", *options, best, monitor]) == 2
    message = capsys.readouterr().err
    assert "did you mean val/extraction_strength/forget?" in message
    assert "val/loss/neighbor" not in message
