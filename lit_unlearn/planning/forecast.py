"""The forecast of a run: what each phase will take on this machine, before a model is loaded."""

from __future__ import annotations

import torch
from rich.table import Table

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.planning.flops import step_flops
from lit_unlearn.planning.phases import Asked, phase_table, phases, rates_here
from lit_unlearn.planning.planned_rows import PlannedRows, rows_of
from lit_unlearn.planning.planner import Planner
from lit_unlearn.planning.scenario import Scenario, scenario_of
from lit_unlearn.training.module import UnlearnModule

__all__ = ["WORTH_SAYING", "forecast", "time_table"]

WORTH_SAYING = 2e12
"""FLOPs from which on a run takes long enough to say how long."""


def forecast(
    module: UnlearnModule,
    data: UnlearnDataModule,
    steps: int,
    asked: Asked = None,
    *,
    precision: str = "32-true",
    device: torch.device,
) -> Table | None:
    """Return the phases of a run as a table; None for a run of seconds.

    Args:
        module: The run's objectives, models and optimizer.
        data: The run's rows.
        steps: Number of optimizer steps.
        asked: The evaluation before and after training; None for none.
        precision: Precision of the trainer.
        device: Where the run computes.

    Raises:
        InputError: The model's config or the rows cannot be read.
    """
    scenario = scenario_of(module, data, precision=precision)
    rows, _ = rows_of(module, data)
    own = Planner(objectives=module.objectives, rows=rows, rates=(1.0, 1.0), limit=None)
    each = sum(sum(f.values()) for f in step_flops(scenario, own.steps(scenario)).values())
    return time_table(module, scenario, rows, each, steps, asked, device)


def time_table(
    module: UnlearnModule,
    scenario: Scenario,
    rows: PlannedRows,
    each: float,
    steps: int,
    asked: Asked,
    device: torch.device,
) -> Table | None:
    """Return the table of planned rows, with ``each`` FLOPs in a step; see `forecast`."""
    found = phases(module.gate, scenario, rows, each, steps, asked)
    if sum(phase.reading + phase.replying for phase in found) < WORTH_SAYING:
        return None
    return phase_table(found, rates_here(scenario.student, scenario.compute_bytes, device))
