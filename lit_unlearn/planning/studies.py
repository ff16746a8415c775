"""Forecast of the time of `interference`, by representation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.interference_study.batches import BatchStream, Rows
from lit_unlearn.interference_study.measure import Amounts
from lit_unlearn.planning.flops import step_flops
from lit_unlearn.planning.forecast import PlannedRun, RunWork
from lit_unlearn.planning.forward_passes import observe
from lit_unlearn.planning.phases import Forecast, Phase, forecast_of, step_phase
from lit_unlearn.planning.planned_rows import rows_of
from lit_unlearn.planning.rates import rates_here
from lit_unlearn.planning.scenario import scenario_of
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.types import Representation

__all__ = ["study_forecast"]


def study_forecast(
    module: UnlearnModule,
    forms: Mapping[Representation, UnlearnDataModule],
    amounts: Amounts,
    device: torch.device,
) -> Forecast | None:
    """Forecast the time of `interference`; None if it takes only seconds.

    Args:
        module: Objectives, teacher and start model.
        forms: The rows in each representation.
        amounts: Extent of the measurement.
        device: Device of the study.

    Raises:
        InputError: The model's config or the rows cannot be read.
    """
    teacher = module.teacher
    if isinstance(teacher, FrozenTeacher):  # the study does not use its cache
        teacher = FrozenTeacher(teacher.dtype, teacher.path)
    found: list[Phase] = []
    runs: list[PlannedRun] = []
    for kind, form in forms.items():
        at = scenario_of(module, form)
        at = replace(at, teacher=teacher, source=replace(at.source, cache_trunk=False))
        runs.append(PlannedRun(module, at, rows_of(module, form)[0], RunWork(1)))
        parts = [*runs[-1].teaching(), *_measured(runs[-1], amounts)]
        found += [replace(part, name=f"{kind}: {part.name}") for part in parts if part.flops]
    dtype = torch.bfloat16 if runs[0].scenario.weight_bytes == 2 else torch.float32
    return forecast_of(
        found, lambda: rates_here(at.config, at.source, dtype, device, runs[0].sample_work())
    )


def _measured(run: PlannedRun, amounts: Amounts) -> Iterator[Phase]:
    """Yield the phases of the gradients of all batches, and of small steps in some batches."""
    objectives = run.module.objectives
    gradients, largest = Phase("gradients"), Phase("")
    for size in amounts.sizes:
        largest = _gradients(run, size)
        gradients += largest.times(amounts.batches)
    forward = largest.reading + largest.training / 3  # a backward pass is twice a forward one
    yield gradients + Phase("", forward * amounts.batches)  # the hidden states
    steps = largest + Phase("", (len(objectives) + 1) * forward)
    yield replace(steps.times(amounts.steps), name="small steps")


def _gradients(run: PlannedRun, size: int) -> Phase:
    """Return the work of all objectives' gradients in a batch with ``size`` answer tokens each."""
    rows, objectives = run.rows.data, run.module.objectives
    counts = {name: [row[0].predictions for row in own] for name, own in rows.encoded.items()}
    batches = BatchStream(Rows(counts, rows.batch, rows.seed), size).batch()
    step = {name: [observe(objectives[name], b) for b in own] for name, own in batches.items()}
    return step_phase(step_flops(run.scenario, [step]))
