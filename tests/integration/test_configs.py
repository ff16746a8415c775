"""Every config parses, and runs at smoke size on the tiny model, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from lit_unlearn.__main__ import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
THIRD_PARTY = [
    "ignore:The 'train_dataloader' does not have many workers",  # the plan is arithmetic
    "ignore:Precision bf16-mixed is not supported by the model summary",
    "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
]
pytestmark = [pytest.mark.filterwarnings(text) for text in THIRD_PARTY]


def smoke_arguments(name: str, folder: Path) -> list[str]:
    """Overrides that make a config small: tiny model, few rows, two steps."""
    config = yaml.safe_load((CONFIGS / name).read_text("utf-8"))
    arguments = [
        "fit",
        f"--config={CONFIGS / name}",
        f"--trainer.default_root_dir={folder}",
        "--trainer.max_steps=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_checkpointing=false",
        "--model.student.path=random-tiny",
        "--model.diagnostics_every=1",
        "--data.max_length=8192",
    ]
    if "teacher" in config["model"]:
        arguments += ["--model.gate.action=warn", "--model.gate.sample=1"]
        arguments += ["--model.gate.max_new_tokens=2"]
        if "path" in config["model"]["teacher"].get("init_args", {}):
            arguments.append("--model.teacher.path=random-tiny")
    for objective in config["data"]["objectives"]:
        arguments += [
            f"--data.objectives.{objective}.evaluation_rows=2",
            f"--data.objectives.{objective}.rows=1",
        ]
    return arguments


@pytest.mark.parametrize("name", NAMES)
def test_config_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "tofu" in name:
        monkeypatch.setenv("LIT_UNLEARN_DATA", str(request.getfixturevalue("shared_data")))
    assert main(smoke_arguments(name, tmp_path)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    config = yaml.safe_load((CONFIGS / name).read_text("utf-8"))
    assert {o["objective"] for o in summary["objectives"]} == set(config["data"]["objectives"])
    assert len((tmp_path / "gradients.jsonl").read_text("utf-8").splitlines()) == 2
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    assert config["data"]["objectives"].keys() <= set(
        (tmp_path / "model/README.md").read_text("utf-8").replace("|", " ").split()
    )


@pytest.mark.parametrize("name", NAMES)
def test_config_says_what_it_costs(name: str) -> None:
    header = (CONFIGS / name).read_text("utf-8").split("\nseed_everything")[0]
    assert "lit-unlearn fit --config" in header
    assert "Cost" in header


def test_a_run_writes_only_into_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke config as it is, in an empty working directory, in under 30 s of work."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    root = tmp_path / "run"
    assert (
        main(["fit", f"--config={CONFIGS / 'smoke.yaml'}", f"--trainer.default_root_dir={root}"])
        == 0
    )
    assert list(here.iterdir()) == []
    assert {p.name for p in root.iterdir()} >= {
        "answers_after.jsonl",
        "answers_before.jsonl",
        "config.yaml",
        "gradients.jsonl",
        "model",
        "report.html",
        "summary.json",
    }
