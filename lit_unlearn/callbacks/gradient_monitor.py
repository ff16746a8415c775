"""GradientMonitor: the fight between the objectives, step by step."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lit_unlearn import schema
from lit_unlearn.files import write_text
from lit_unlearn.gradients import diagnostics
from lit_unlearn.report import heatmap_figure
from lit_unlearn.step import StepRecord

GRADIENT_FILE = "gradients.jsonl"


class GradientMonitor(Callback):
    """Logs how the objectives' gradients stand to each other, at every diagnosed step.

    The steps are those of `model.diagnostics_every`. Scalars: `grad_cos/A~B` for each pair,
    `grad_norm/A`, `grad_norm/update`, `grad_cos_update/A` (with the combined update), `weight/A`
    and `conflict/rate`. The same per layer group (embedding, each decoder block, head) goes into
    the table `gradients.jsonl` in the run's folder and, as a heat map, to TensorBoard. Its key
    `diagnostics` says whether the figures are exact or estimated from sketches.

    Args:
        heat_map_every: Write the heat-map image at every so many diagnosed steps; 0 for never.
    """

    def __init__(self, heat_map_every: int = 5) -> None:
        self.heat_map_every = heat_map_every
        self._lines: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On resume keep the table up to the step that comes next; otherwise begin a new one."""
        path = gradient_file(trainer)
        self._lines = []
        if trainer.global_step > 0 and path.exists():
            lines = [line for line in path.read_text("utf-8").split("\n") if line]
            self._lines = [n for n in lines if json.loads(n)["step"] < trainer.global_step]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the Gramian of a diagnosed step."""
        record: StepRecord = outputs
        grouped, weights = record["gramian"], record["weights"]
        if grouped is None or weights is None:
            return
        names = list(pl_module.objectives)
        row = gradient_row(record, names)
        scalars = _scalars(names, row)
        pl_module.log_dict(scalars, batch_size=1, logger=False)
        # by hand: Lightning logs at its own interval, and then says the last value once more
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=row["step"])
        self._write(trainer, row)

    @rank_zero_only
    def _write(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._lines.append(json.dumps(_nan_to_null(row)))
        write_text(gradient_file(trainer), "\n".join(self._lines) + "\n")
        board: Any = getattr(trainer.logger, "experiment", None)
        due = self.heat_map_every > 0 and (len(self._lines) - 1) % self.heat_map_every == 0
        if due and hasattr(board, "add_figure") and len(row["objectives"]) > 1:
            figure = heatmap_figure([row])
            board.add_figure("grad_cos/layer_groups", figure, global_step=row["step"])


def gradient_file(trainer: Trainer) -> Path:
    """Where the table of a run is."""
    return Path(trainer.default_root_dir) / GRADIENT_FILE


def gradient_row(record: StepRecord, names: list[str]) -> dict[str, Any]:
    """One line of the table: plain numbers of one diagnosed step."""
    grouped, weights = record["gramian"], record["weights"]
    if grouped is None or weights is None:
        raise ValueError("`record` should be that of a diagnosed step.")
    whole = grouped.whole
    made, parts = whole, weights
    if record["with_update"] is not None:  # the update is no weighted sum: it is there itself, last
        made = record["with_update"]
        parts = torch.eye(len(made), dtype=torch.float64)[-1]
    return {
        "step": record["step"],
        "diagnostics": record["diagnostics"],
        "objectives": names,
        "losses": [record["losses"].get(name, math.nan) for name in names],
        "norms": diagnostics.norms(whole).tolist(),
        "cosines": diagnostics.cosines(whole).tolist(),
        "weights": weights.tolist(),
        "update_norm": float(diagnostics.update_norm(made, parts)),
        "update_cosines": diagnostics.update_cosines(made, parts)[: len(names)].tolist(),
        "conflict_rate": float(diagnostics.conflict_rate(whole)),
        "groups": list(grouped.groups),
        "group_cosines": _stack([diagnostics.cosines(g) for g in grouped.by_group]),
        "group_norms": _stack([diagnostics.norms(g) for g in grouped.by_group]),
    }


def _stack(parts: list[Tensor]) -> Any:
    return torch.stack(parts).tolist() if parts else []


def _scalars(names: list[str], row: dict[str, Any]) -> dict[str, float]:
    scalars = {
        schema.cosine_name(names[i], names[j]): row["cosines"][i][j] for i, j in schema.pairs(names)
    }
    for index, name in enumerate(names):
        scalars[schema.gradient_norm_name(name)] = row["norms"][index]
        scalars[schema.update_cosine_name(name)] = row["update_cosines"][index]
        scalars[schema.weight_name(name)] = row["weights"][index]
    scalars[schema.CONFLICT_RATE] = row["conflict_rate"]
    scalars[schema.GRADIENT_NORM_TOTAL] = row["update_norm"]
    return {key: float(value) for key, value in scalars.items()}


def _nan_to_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
