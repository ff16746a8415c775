"""Methods by their bare names in a config, as the command line reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_unlearn.cli.checking import checked
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.combination import SAGO
from lit_unlearn.models.noise import Noise
from lit_unlearn.objectives import DPO
from lit_unlearn.teachers import ContrastTeacher

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


def module(folder: Path, model: dict[str, Any], forget: dict[str, Any] | None = None) -> Any:
    """Return the module that `fit` would train; the step's own tests train with the same parts."""
    (folder / "base.yaml").write_text(BASE, "utf-8")
    method = {"model": model, "data": {"objectives": {"forget": forget or {}}}}
    (folder / "method.yaml").write_text(yaml.safe_dump(method), "utf-8")
    return checked([f"--config={folder / name}.yaml" for name in ("base", "method")]).model


@pytest.mark.parametrize(
    ("combination", "agreed"),
    [("SAGO", "forget"), ({"class_path": "SAGO", "init_args": {"agreed": "sum"}}, "sum")],
)
def test_sago(tmp_path: Path, combination: Any, agreed: str) -> None:
    found = module(tmp_path, {"combination": combination}).combination
    assert isinstance(found, SAGO)
    assert found.agreed == agreed


def test_sago_beside_a_weighting(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should be null or Fixed\. Found PCGrad"):
        module(tmp_path, {"combination": "SAGO", "weighting": "PCGrad"})


def test_a_misspelt_combination(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SAGO"):
        module(tmp_path, {"combination": "SAGA"})


def test_noise(tmp_path: Path) -> None:
    found = module(tmp_path, {"student": {"noise": {"mix": 0.3}}})
    assert found.source.noise == Noise(mix=0.3, scale=0.1, seed=0)


def test_contrast_teacher(tmp_path: Path) -> None:
    teacher = {"class_path": "ContrastTeacher", "init_args": {"path": "random-tiny", "scale": 0.5}}
    found = module(tmp_path, {"teacher": teacher}).teacher
    assert isinstance(found, ContrastTeacher)
    assert found.scale == 0.5


def test_alternate_answers(tmp_path: Path) -> None:
    """DPO prefers them to the gold ones; without a rejected answer it is refused."""
    dpo = {"objectives": {"forget": {"class_path": "DPO"}}}
    forget = {"answer": "alternate", "rejected": "gold", "answer_tokens": 8}
    assert isinstance(module(tmp_path, dpo, forget).objectives["forget"], DPO)
    with pytest.raises(InputError, match="rejected"):
        module(tmp_path, dpo, {**forget, "rejected": None})
