"""A run of a second that writes all that runs write, and what is done to it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, Trainer
from safetensors.torch import load_file

from lit_unlearn.__main__ import main

KEPT = (".lit_unlearn.json", ".lock", "lightning_logs")


class SimulatedKill(BaseException):
    """The end of a process, without its exit."""


class Die(Callback):
    """Ends the run in the middle of a step, or at the end of training before the export."""

    def __init__(self, step: int, at_end: bool = False) -> None:
        self.step, self.at_end = step, at_end

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.at_end:
            raise SimulatedKill

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        if self.at_end:
            raise SimulatedKill


def config(**trainer: Any) -> dict[str, Any]:
    """Two objectives without teacher, three steps, a checkpoint after each, and an export."""

    def rows(name: str, expect: str) -> dict[str, Any]:
        source = {"path": f"builtin:{name}", "split": "train", "limit": 4}
        return {"sources": [source], "expect": expect, "rows": 2}

    return {
        "trainer": {
            "max_steps": 3,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "Resumable", "init_args": {"every_n_steps": 1}},
                "HuggingFaceExport",
            ],
            **trainer,
        },
        "model": {
            "student": {"path": "random-tiny"},
            "gate": {"action": "off"},
            "diagnostics_every": 0,
            "objectives": {"forget": "GradientAscent", "retain": "CrossEntropy"},
        },
        "data": {
            "objectives": {
                "forget": rows("forget", "decline"),
                "retain": rows("general", "answer"),
            }
        },
    }


def written(file: Path, content: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(content), "utf-8")
    return file


def fit(file: Path, *options: str, dies: int = 0, at_end: bool = False) -> int | None:
    """Run `fit` on a config; None where it was killed."""
    arguments = ["fit", "--config", str(file), *options]
    if dies or at_end:
        arguments += ["--trainer.callbacks+=tests.faults.owned_runs.Die"]
        arguments += [f"--trainer.callbacks.step={dies}", f"--trainer.callbacks.at_end={at_end}"]
    try:
        return main(arguments)
    except SimulatedKill:
        return None


def same(first: Path, second: Path) -> bool:
    """Return whether two runs have exported the same weights, bit by bit."""
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (first, second))
    return all(torch.equal(value, two[name]) for name, value in one.items())


def snapshot(root: Path) -> dict[str, bytes]:
    """Return the content of all files but markers, locks and curves."""
    files = (file for file in sorted(root.rglob("*")) if file.is_file())
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in files
        if not set(file.relative_to(root).parts) & set(KEPT)
    }


def foreign_files(root: Path, choose: random.Random) -> dict[str, bytes]:
    """Put files of the user under names of all kinds; return them."""
    names = [
        "NOTES.txt", "model.bak/net.py", "unfinished.old/step_1/state.ckpt", "evaluation/mine.csv",
        "unfinished/readme", "results/summary.json", "config.yaml.1", ".model.mine",
    ]  # fmt: skip
    for name in choose.sample(names, 5):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"mine {name}", "utf-8")
    return snapshot(root)
