"""Methods by their bare names in a config, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.models.tiny import tiny_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
)

BASE = """
trainer:
  max_steps: 2
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks: [{class_path: GradientMonitor}]
model:
  student: {path: random-tiny}
  teacher: {class_path: FrozenTeacher}
  gate: {action: "off"}
  diagnostics_every: 1
  objectives:
    forget: {class_path: SharpnessAware, init_args: {radius: 0.05, objective: {class_path: NPO}}}
    retain: {class_path: ForwardKL}
data:
  objectives:
    forget: {sources: [{path: "builtin:forget", limit: 4}], expect: decline, rows: 2}
    retain: {sources: [{path: "builtin:general", limit: 4}], expect: answer, rows: 2}
"""


def fit(folder: Path, model: dict[str, Any], forget: dict[str, Any] | None = None) -> int:
    (folder / "base.yaml").write_text(BASE, "utf-8")
    method = {"model": model, "data": {"objectives": {"forget": forget or {}}}}
    (folder / "method.yaml").write_text(yaml.safe_dump(method), "utf-8")
    configs = [f"--config={folder / name}.yaml" for name in ("base", "method")]
    return main(["fit", *configs, f"--trainer.default_root_dir={folder / 'run'}"])


def saved(folder: Path) -> Any:
    return yaml.safe_load((folder / "run" / "config.yaml").read_text("utf-8"))["model"]


@pytest.mark.parametrize(
    "combination", ["SAGO", {"class_path": "SAGO", "init_args": {"agreed": "sum"}}]
)
def test_sago(tmp_path: Path, combination: Any) -> None:
    assert fit(tmp_path, {"combination": combination}) == 0
    expected = "forget" if combination == "SAGO" else "sum"
    assert saved(tmp_path)["combination"]["init_args"]["agreed"] == expected
    lines = (tmp_path / "run" / "gradients.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0])["weights"] == [None, None]


def test_sago_beside_a_weighting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, {"combination": "SAGO", "weighting": "PCGrad"}) == 2
    assert "`model.weighting` should be null or Fixed. Found PCGrad" in capsys.readouterr().err


def test_a_misspelt_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, {"combination": "SAGA"}) == 2
    assert "SAGO" in capsys.readouterr().err


def test_noise(tmp_path: Path) -> None:
    assert fit(tmp_path, {"student": {"noise": {"mix": 0.3}}}) == 0
    assert saved(tmp_path)["student"]["noise"] == {"mix": 0.3, "scale": 0.1, "seed": 0}


def test_contrast_teacher(tmp_path: Path) -> None:
    tiny_model(seed=1).save_pretrained(tmp_path / "reinforced")  # type: ignore[no-untyped-call]
    path = str(tmp_path / "reinforced")
    teacher = {"class_path": "ContrastTeacher", "init_args": {"path": path, "scale": 0.5}}
    assert fit(tmp_path, {"teacher": teacher}) == 0
    assert saved(tmp_path)["teacher"]["init_args"]["scale"] == 0.5


def test_alternate_answers(tmp_path: Path) -> None:
    objective = {"class_path": "DPO"}
    forget = {"answer": "alternate", "rejected": "gold", "answer_tokens": 8}
    assert fit(tmp_path, {"objectives": {"forget": objective}}, forget) == 0
    stored = json.loads((tmp_path / "run" / "preparation.json").read_text("utf-8"))["content"]
    assert len(stored["answers"]["forget"]) == 4
    assert all(stored["answers"]["forget"])
