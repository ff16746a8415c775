"""Settings that make a checkpoint one of another run, and those that do not."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_unlearn.callbacks.huggingface_export import save_folder
from lit_unlearn.cli.resume import CHANGES_WEIGHTS, NEUTRAL, run_settings
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.teachers.frozen import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.utils.debug_flags import debug_flags

SETTINGS: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"max_steps": 3, "precision": None, "callbacks": None},
    "model": {
        "student": {"path": "random-tiny", "cache_trunk": "auto", "compile": False},
        "teacher": {"class_path": "FrozenTeacher", "init_args": {"cache": False, "dtype": None}},
        "diagnostics": "exact",
        "objectives": {"forget": {"class_path": "NPO", "init_args": {"beta": 0.1}}},
    },
    "data": {
        "num_workers": 0,
        "objectives": {"forget": {"sources": [{"path": "hub/rows", "limit": 4}]}},
    },
}


def changed(key: str, value: object) -> str:
    """Return the settings with one more or another value."""
    settings = yaml.safe_load(yaml.safe_dump(SETTINGS))
    inner = settings
    *path, last = key.split(".")
    for part in path:
        inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    inner[last] = value
    return yaml.safe_dump(settings)


TRAINER = {
    "default_root_dir": "elsewhere", "accelerator": "cpu", "devices": 1, "num_nodes": 1,
    "strategy": "auto", "logger": False, "log_every_n_steps": 7, "enable_progress_bar": False,
    "enable_checkpointing": True, "enable_model_summary": False, "deterministic": True,
    "callbacks": [{"class_path": "LearningRateMonitor"}, {"class_path": "Resumable"}, "Timer"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [*((key, "other") for key in NEUTRAL), *((f"trainer.{k}", v) for k, v in TRAINER.items())],
)
def test_neutral_settings_do_not_count(key: str, value: object) -> None:
    """Neither another value, nor a key that an earlier version did not have."""
    plain = (
        changed(key, None) if key.startswith(("model", "data")) else changed("seed_everything", 0)
    )
    assert run_settings(changed(key, value)) == run_settings(plain)


def test_neutral_settings_exist() -> None:
    owners: dict[str, Any] = {
        "data": UnlearnDataModule,
        "model": UnlearnModule,
        "model.student": ModelSource,
        "model.teacher.init_args": FrozenTeacher,
    }
    for key in NEUTRAL:
        owner, _, name = key.rpartition(".")
        assert name in inspect.signature(owners[owner]).parameters, key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed_everything", 1),
        ("trainer.max_steps", 4),
        ("trainer.precision", "bf16-mixed"),
        ("trainer.callbacks", ["lightning.pytorch.callbacks." + CHANGES_WEIGHTS[1]]),
        ("trainer.callbacks", [{"class_path": CHANGES_WEIGHTS[-1], "init_args": {}}]),
        ("model.student.path", "owner/model"),
        ("model.teacher.init_args.dtype", "bfloat16"),
        ("model.objectives.forget.init_args.beta", 0.2),
        ("data.objectives.forget.sources.0.limit", 5),
    ],
)
def test_all_others_count(key: str, value: object) -> None:
    assert run_settings(changed(key, value)) != run_settings(yaml.safe_dump(SETTINGS))


def test_local_files_count_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they are, and however their path is written."""
    monkeypatch.setenv("ROWS", str(tmp_path))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n", "utf-8")
    shutil.copy(rows, tmp_path / "moved.jsonl")
    key = "data.objectives.forget.sources.0.path"
    first = run_settings(changed(key, str(rows)))
    assert run_settings(changed(key, "$ROWS/moved.jsonl")) == first
    rows.write_text("{} \n", "utf-8")
    assert run_settings(changed(key, str(rows))) != first
    save_folder(tiny_model(), tiny_tokenizer(), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    models = [run_settings(changed("model.student.path", str(tmp_path / n))) for n in "ab"]
    assert models[0] == models[1]
    assert models[0] != first


@pytest.mark.parametrize(
    ("flag", "value", "debug"),
    [
        ("fast_dev_run", True, True),
        ("fast_dev_run", 2, True),
        ("fast_dev_run", False, False),
        ("overfit_batches", 0.5, True),
        ("overfit_batches", 0.0, False),
        ("limit_train_batches", 1, True),
        ("limit_train_batches", 1.0, False),
        ("limit_train_batches", 0, True),
        ("limit_val_batches", 2, False),
        ("limit_test_batches", 0.1, True),
        ("limit_predict_batches", None, False),
        ("max_steps", 1, False),
    ],
)
def test_debug_flags(flag: str, value: object, debug: bool) -> None:
    assert debug_flags({flag: value}) == ([f"trainer.{flag}"] if debug else [])
