"""The run as one line of TensorBoard's tab HPARAMS: its settings, and its final figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lit_unlearn.callbacks.board import tensorboard
from lit_unlearn.callbacks.gradient_monitor import GRADIENT_FILE
from lit_unlearn.cli.config import read_dumped
from lit_unlearn.log_names import final_name, pairs
from lit_unlearn.report import read_gradients

__all__ = ["final_figures", "hyperparameters", "write_session"]

Setting = bool | int | float | str
_PLACES = ("trainer.default_root_dir", "trainer.callbacks", "trainer.logger", "ckpt_path")
"""Settings of where a run writes and what it shows."""
_KINDS = ("eval/", "loss/", "val/")
"""Beginnings of the names of scalars whose last value is a result of the run."""


def write_session(trainer: Trainer, text: str) -> None:
    """Write settings and figures of a finished run; `text` is its config in YAML."""
    logger = tensorboard(trainer)
    figures = final_figures(trainer)
    if logger is None or not trainer.is_global_zero or not figures:
        return
    # Without an experiment TensorBoard takes the columns of all runs, those that differ first. In
    # a folder of its own the run has no other scalars, each of which would be a column.
    _, start, end = hparams(hyperparameters(text), figures)
    with SummaryWriter(Path(logger.log_dir) / "final") as writer:
        for summary in (start, end):
            writer.file_writer.add_summary(summary)
        for name, value in figures.items():
            writer.add_scalar(name, value, trainer.global_step)


def hyperparameters(text: str) -> dict[str, Setting]:
    """Return settings by their keys in a config, for a config in YAML.

    A class counts under the key of its place, by its name. Settings that are null are left out, and
    so are those of where the run writes.
    """
    values = read_dumped(text)
    return {key: value for key, value in _flat(values) if not key.startswith(_PLACES)}


def final_figures(trainer: Trainer) -> dict[str, float]:
    """Return the results of a run: evaluation and losses at its end, means of the cosines."""
    found = {
        name.removeprefix("eval/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(_KINDS)
    }
    table = Path(trainer.default_root_dir) / GRADIENT_FILE
    found |= _mean_cosines(read_gradients(table) if table.exists() else [])
    return {final_name(name): value for name, value in found.items() if math.isfinite(value)}


def _mean_cosines(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means of cosines and conflict rate over the steps at which they are defined."""
    if not rows:
        return {}
    names = rows[0]["objectives"]
    values = {"conflict_rate": [row["conflict_rate"] for row in rows]} | {
        f"cosine/{names[i]}~{names[j]}": [row["cosines"][i][j] for row in rows]
        for i, j in pairs(names)
    }
    defined = {name: np.array(each)[np.isfinite(each)] for name, each in values.items()}
    return {name: float(each.mean()) for name, each in defined.items() if len(each)}


def _flat(value: object, key: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield dotted key and value of all settings below a key."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            own = key if name in ("class_path", "init_args") else f"{key}.{name}".strip(".")
            yield from _flat(item.rpartition(".")[2] if name == "class_path" else item, own)
    elif isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value):
        yield from (pair for n, item in enumerate(value) for pair in _flat(item, f"{key}.{n}"))
    elif isinstance(value, list):
        yield key, ", ".join(map(str, value))
    elif isinstance(value, Setting):
        yield key, str(value) if isinstance(value, float) and not math.isfinite(value) else value
