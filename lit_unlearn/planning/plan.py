"""Plan of a run: memory, FLOPs, time and disk space, on one device and on several."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.epochs import run_steps
from lit_unlearn.errors import check_number
from lit_unlearn.models.dtypes import measured_rate, precision_for
from lit_unlearn.objectives.objective import check_teacher
from lit_unlearn.planning.devices import UTILISATION, Device, find_device
from lit_unlearn.planning.planned_rows import LENGTHS, Lengths, rows_of
from lit_unlearn.planning.planner import Plan, Planner
from lit_unlearn.planning.scenario import Scenario, Strategy, scenario_of
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.checks import check_names

__all__ = ["TrainerSettings", "local_device", "plan"]


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of the trainer that a plan depends on.

    Args:
        precision: Number format of training.
        max_steps: Largest number of optimizer steps; -1 for no limit.
        devices: Devices of a node, or `auto` (1).
        num_nodes: Nodes.
        strategy: Strategy that divides the work among devices.
        max_epochs: Largest number of epochs; null or -1 for no limit. The teacher cache is planned
            for one step if there is neither limit.
        limit_train_batches: Share of an epoch, or largest number of its steps.
    """

    precision: str | int | None = "32-true"
    max_steps: int = -1
    devices: int | str | list[int] = 1
    num_nodes: int = 1
    strategy: Any = "auto"
    max_epochs: int | None = None
    limit_train_batches: int | float = 1.0

    def resolved_precision(self, *, native: bool = False) -> str:
        """Return the precision; `auto` depends on this machine, or is bf16-mixed if ``native``."""
        if self.precision == "auto":
            return "bf16-mixed" if native else precision_for(local_device())
        return str(self.precision)

    def count(self) -> int:
        """Return the number of devices of all nodes."""
        given = self.devices
        if isinstance(given, str):  # "8", or the numbers of GPUs as "0,1"
            numbers = [int(part) for part in given.split(",") if part.strip().isdigit()]
            given = int(given) if given.isdigit() else numbers
        each = len(given) if isinstance(given, list) else given
        return max(each, 1) * self.num_nodes


_TRAINER = TrainerSettings()


def plan(
    module: UnlearnModule,
    data: UnlearnDataModule,
    trainer: TrainerSettings = _TRAINER,
    *,
    device: str | None = None,
    memory: float | None = None,
    utilisation: float | None = None,
    devices: int | None = None,
    strategy: Strategy | None = None,
    architecture: str | None = None,
    tokenizer: str | None = None,
    rows: Literal["auto", "read", "assumed"] = "auto",
    lengths: Lengths = LENGTHS,
) -> Plan:
    """Estimate a run's memory, FLOPs, disk space and time without loading weights.

    Args:
        module: The run's objectives, models and optimizer.
        data: The run's rows.
        trainer: Settings of the trainer that a plan depends on.
        device: Device of the run by name (h100, h200, a100-80gb, a100-40gb, l40s, rtx4090); null
            for no verdict, and times on this machine.
        memory: Gigabytes (10^9 bytes) of a device, in place of those of `device`.
        utilisation: Share of the device's peak, or of the rate of this machine, that a step
            reaches; null takes 0.2 to 0.5 of a peak, and the whole measured rate.
        devices: Number of devices; null takes `trainer.devices` times `trainer.num_nodes`.
        strategy: Division of the work among devices; null takes `trainer.strategy` if that is ddp
            or fsdp2, else ddp.
        architecture: Shape of the model if its config.json cannot be reached: Llama-3.2-1B,
            Llama-3.1-8B, Llama-3.1-70B, a config.json, or a folder with one.
        tokenizer: Model whose tokenizer encodes the rows if the run's tokenizer cannot be reached.
        rows: `read` encodes the rows, `assumed` takes `lengths`, `auto` takes `lengths` if rows
            cannot be read.
        lengths: Numbers of tokens for assumed rows.

    Returns:
        The plan.

    Raises:
        InputError: `fit` would refuse the settings, or the model's config cannot be reached.
    """
    check_number("memory", memory, 0, above=True)
    check_number("utilisation", utilisation, 0, 1, above=True)
    check_number("devices", devices, 1)
    check_names(module.objectives.keys(), data.objectives.keys())
    if module.teacher is None:
        check_teacher(module.objectives)
    known = None if device is None else find_device(device)
    sharing, native = str(trainer.strategy).lower(), known is not None
    scenario = scenario_of(
        module,
        data,
        precision=trainer.resolved_precision(native=native),
        strategy=strategy or ("fsdp2" if "fsdp" in sharing else "ddp"),
        devices=devices or trainer.count(),
        gather_half="fsdp" not in sharing or "bfloat16" in sharing,
        architecture=architecture,
    )
    planned, remarks = rows_of(module, data, rows, tokenizer, lengths)
    steps = run_steps(trainer, data.epoch_steps())
    if not steps:
        remarks.append("The number of steps is not known; the cache is sized for one step.")
    remarks += _remarks(scenario, trainer, device, known, utilisation, devices)
    size = memory or (None if known is None else known.memory)
    return Planner(
        objectives=module.objectives,
        rows=planned,
        rates=_rates(scenario, known, utilisation),
        limit=None if size is None else 1e9 * size,
    ).plan(scenario, max(steps, 1), tuple(remarks))


def _rates(
    scenario: Scenario, device: Device | None, utilisation: float | None
) -> tuple[float, float]:
    if device is not None:
        return device.rates(scenario.compute_bytes, utilisation)
    dtype = torch.bfloat16 if scenario.compute_bytes == 2 else torch.float32
    rate = (utilisation or 1.0) * measured_rate(dtype, local_device().type)
    return rate, rate


def local_device() -> torch.device:
    """Return this machine's first GPU, or else its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _remarks(
    scenario: Scenario,
    trainer: TrainerSettings,
    name: str | None,
    device: Device | None,
    utilisation: float | None,
    devices: int | None,
) -> Iterator[str]:
    if scenario.gather_half and scenario.precision == "bf16-mixed":
        yield (
            "fsdp2 is planned with `gather_dtype: bfloat16` of FSDP2Strategy; without it autocast "
            "keeps a copy of all weights on every device."
        )
    if device is None:
        share = "" if utilisation is None else f"{utilisation:.0%} of "
        yield (
            f"Seconds are the FLOPs of a step divided by {share}the rate of a large matrix product "
            "on this machine, measured now; a step takes longer than that."
        )
    else:
        low, high = UTILISATION if utilisation is None else (utilisation, utilisation)
        share = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
        yield (
            f"{name}: {device.source}. Seconds are the FLOPs of a step at {share} of its peak "
            "(not measured here; --utilisation sets one share)."
        )
    if trainer.count() > 1 or devices:
        yield "Figures for several devices come from formulas, without communication between them."
