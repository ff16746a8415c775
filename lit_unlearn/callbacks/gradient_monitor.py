"""GradientMonitor: norms and cosines of the objectives' gradients, step by step."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from lit_unlearn import log_names
from lit_unlearn.callbacks.board import Board, tensorboard
from lit_unlearn.gradients import diagnostics
from lit_unlearn.training.step import StepRecord
from lit_unlearn.types import TokenBatch
from lit_unlearn.utils.ownership import write_text

__all__ = ["GRADIENT_FILE", "GradientMonitor", "answer_tokens", "gradient_row"]

GRADIENT_FILE = "gradients.jsonl"


class GradientMonitor(Callback):
    """Log of the norms and cosines of the objectives' gradients at every diagnosed step.

    The steps are those of `model.diagnostics_every`. Scalars: `grad_cos/A~B` for each pair,
    `grad_norm/A`, `grad_norm/update`, `grad_cos_update/A` (with the combined update), `weight/A`
    and `conflict/rate`. The same cosines per layer group (embedding, each decoder block, head) are
    `grad_cos_layers/A~B/GROUP`. The table `gradients.jsonl` in the run's folder has all figures
    too, with the number of answer tokens in each objective's batch (in small batches, noise moves
    the cosines towards 0). Its key `diagnostics` says whether the figures are exact or estimated
    from sketches.

    TensorBoard shows more: in `compare` all pairs and objectives in one chart each, a curve and a
    colour for each; heat maps of the layers, at one step and over the steps; the histogram of the
    cosines; and the first rows of each objective as text. With more than seven objectives there is
    a chart of the pairs of each objective, and none of all pairs.

    A gradient is only rounding if its norm is below 1e-6, or below 1e-5 times the largest norm of
    the step (0.05 times if `trainer.precision` is a form of bf16). It has no cosines (no scalar,
    `null` in the table) and no conflict; its norm is logged. At the first step this holds for every
    objective that distils from the start model without a context.

    Args:
        heat_map_every: Diagnosed steps between heat maps of one step; 0 for no heat maps. Those
            over all steps are drawn at twice, four, eight, ... times as many steps, and at the end.
    """

    def __init__(self, heat_map_every: int = 5) -> None:
        self.heat_map_every = heat_map_every
        self._lines: list[str] = []
        self._board: Board | None = None

    def writes(self, root: Path, steps: int | None) -> list[Path]:
        """Return the table of a run in a folder; see `check_run_folder`."""
        return [] if steps is None else [root / GRADIENT_FILE]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new table; on resume, keep the lines of earlier steps."""
        path = _gradient_file(trainer)
        self._lines = []
        if trainer.global_step > 0 and path.exists():
            lines = [line for line in path.read_text("utf-8").split("\n") if line]
            self._lines = [n for n in lines if json.loads(n)["step"] < trainer.global_step]
        logger = tensorboard(trainer)
        if trainer.is_global_zero and logger is not None:
            module: Any = pl_module
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            declining = [name for name, own in data.objectives.items() if own.expect == "decline"]
            names, step = list(module.objectives), trainer.global_step
            self._board = Board(logger, names, declining, step, path, self.heat_map_every)
            if step == 0:
                self._board.add_rows(data, module.tokenizer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the layers over all steps, and close TensorBoard's files."""
        if self._board is not None:
            self._board.draw_history(len(self._lines))
            self._board.close()
            self._board = None

    def scalar_names(self, objectives: Mapping[str, Any], data: object) -> Iterator[str]:
        """Yield the names of the scalars that this callback logs at diagnosed steps."""
        names = list(objectives)
        yield from (log_names.cosine_name(names[i], names[j]) for i, j in log_names.pairs(names))
        of_one = (log_names.gradient_norm_name, log_names.update_cosine_name, log_names.weight_name)
        yield from (make(name) for make in of_one for name in names)
        yield from (log_names.CONFLICT_RATE, log_names.GRADIENT_NORM_TOTAL)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the Gramian of a diagnosed step."""
        record: StepRecord = outputs
        grouped, weights = record["gramian"], record["weights"]
        if grouped is None or weights is None:
            return
        names = list(pl_module.objectives)
        half = str(trainer.precision).startswith("bf16")
        share = diagnostics.AT_REST_HALF if half else diagnostics.AT_REST
        row = gradient_row(record, names, share)
        row["answer_tokens"] = answer_tokens(batch, names)
        scalars = _scalars(names, row)
        pl_module.log_dict(_defined(scalars), batch_size=1, logger=False)
        # directly, since Lightning logs at its own interval and repeats the last value
        shown = _defined(scalars | _layer_scalars(names, row))
        for logger in trainer.loggers:
            logger.log_metrics(shown, step=row["step"])
        self._write(trainer, row)

    @rank_zero_only
    def _write(self, trainer: Trainer, row: dict[str, Any]) -> None:
        self._lines.append(json.dumps(_nan_to_null(row)))
        write_text(_gradient_file(trainer), "\n".join(self._lines) + "\n")
        if self._board is not None:
            self._board.add(row)
            self._board.draw_due(row, len(self._lines))


def _gradient_file(trainer: Trainer) -> Path:
    """Return the path of the table of a run."""
    return Path(trainer.default_root_dir) / GRADIENT_FILE


def gradient_row(
    record: StepRecord, names: list[str], share: float = diagnostics.AT_REST
) -> dict[str, Any]:
    """Return one line of the table: plain numbers of one diagnosed step.

    A gradient is at rest below ``share`` of the largest norm (`diagnostics.at_rest`).
    """
    grouped, weights = record["gramian"], record["weights"]
    if grouped is None or weights is None:
        raise ValueError("`record` should be that of a diagnosed step.")
    whole = grouped.whole
    rests = diagnostics.at_rest(whole, share)
    awake = diagnostics.without(whole, rests)
    by_group = [diagnostics.without(group, rests) for group in grouped.by_group]
    made, parts = whole, weights
    if record["with_update"] is not None:  # the update is no weighted sum, but the last entry
        made = record["with_update"]
        parts = torch.eye(len(made), dtype=torch.float64)[-1]
    to_update = diagnostics.update_cosines(made, parts)[: len(names)]
    return {
        "step": record["step"],
        "diagnostics": record["diagnostics"],
        "objectives": names,
        "losses": [record["losses"].get(name, math.nan) for name in names],
        "norms": diagnostics.norms(whole).tolist(),
        "cosines": diagnostics.cosines(awake).tolist(),
        "weights": weights.tolist(),
        "update_norm": float(diagnostics.update_norm(made, parts)),
        "update_cosines": to_update.masked_fill(rests, math.nan).tolist(),
        "conflict_rate": float(diagnostics.conflict_rate(awake)),
        "groups": list(grouped.groups),
        "group_cosines": [diagnostics.cosines(group).tolist() for group in by_group],
        "group_norms": [diagnostics.norms(group).tolist() for group in grouped.by_group],
    }


def answer_tokens(batch: Mapping[str, Sequence[TokenBatch]], names: Sequence[str]) -> list[int]:
    """Count the answer positions of each objective in this process's share of a step.

    An objective may read only the first positions of each row.
    """
    own = ([part for part in batch.get(name, []) if not part.borrowed] for name in names)
    return [sum(len(part.offsets) for part in parts) for parts in own]


def _scalars(names: list[str], row: dict[str, Any]) -> dict[str, float]:
    scalars = {
        log_names.cosine_name(names[i], names[j]): row["cosines"][i][j]
        for i, j in log_names.pairs(names)
    }
    for make, key in (
        (log_names.gradient_norm_name, "norms"),
        (log_names.update_cosine_name, "update_cosines"),
        (log_names.weight_name, "weights"),
    ):
        scalars |= dict(zip(map(make, names), row[key], strict=True))
    scalars[log_names.CONFLICT_RATE] = row["conflict_rate"]
    scalars[log_names.GRADIENT_NORM_TOTAL] = row["update_norm"]
    return {key: float(value) for key, value in scalars.items()}


def _layer_scalars(names: list[str], row: dict[str, Any]) -> dict[str, float]:
    return {
        log_names.layer_cosine_name(names[i], names[j], group): float(cosines[i][j])
        for group, cosines in zip(row["groups"], row["group_cosines"], strict=True)
        for i, j in log_names.pairs(names)
    }


def _defined(scalars: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in scalars.items() if math.isfinite(value)}


def _nan_to_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
