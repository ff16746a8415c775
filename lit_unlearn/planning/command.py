"""What `lit-unlearn plan` does: the settings of a run, its rows, the plan shown and written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.loading import load_tokenizer
from lit_unlearn.objectives import Objective
from lit_unlearn.objectives.objective import check_teacher
from lit_unlearn.planning.architectures import model_config
from lit_unlearn.planning.devices import Device, find_device
from lit_unlearn.planning.plan import make_plan
from lit_unlearn.planning.rows import Lengths, Rows, assumed_rows, read_rows
from lit_unlearn.planning.run import Strategy
from lit_unlearn.planning.setting import Gathered, Setting, number_formats, state_bytes
from lit_unlearn.planning.show import as_json, show
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.checks import check_names
from lit_unlearn.utils.atomic import write_text
from lit_unlearn.utils.plain_json import json_text

_WIDTH = 140
"""Characters of a line where the output goes to a file."""


@dataclass
class Options:
    """What is planned for, and where the plan goes.

    Args:
        device: Where the run is to fit, by name (h100, h200, a100-80gb, a100-40gb, l40s, rtx4090);
            null plans without times and verdict.
        memory: Gigabytes (10^9 bytes) of a device, in place of those of `device`.
        utilisation: Share of the device's peak that matrix products reach, in place of the default
            (0.4 for GPUs, which nothing here has measured).
        devices: Number of devices; null takes `trainer.devices` times `trainer.num_nodes`.
        strategy: How they share the work; null takes `trainer.strategy`, or ddp if that is
            something else.
        architecture: Shape of the model where its config.json cannot be reached: Llama-3.2-1B,
            Llama-3.1-8B, Llama-3.1-70B, a config.json, or a folder with one.
        tokenizer: Another model whose tokenizer measures the rows, where the model's own cannot be
            reached; tokens are about as long.
        rows: `read` the rows and measure them, take `assumed` lengths, or (`auto`) assume where
            they cannot be read.
        lengths: Tokens of a row where lengths are assumed.
        output: JSON file for all figures.
        formulas: Print the formulas and leave.
    """

    device: str | None = None
    memory: float | None = None
    utilisation: float | None = None
    devices: int | None = None
    strategy: Literal["ddp", "fsdp2"] | None = None
    architecture: str | None = None
    tokenizer: str | None = None
    rows: Literal["auto", "read", "assumed"] = "auto"
    lengths: Lengths = field(default_factory=Lengths)
    output: Path | None = None
    formulas: bool = False

    def __post_init__(self) -> None:
        check_number("memory", self.memory, 0, above=True)
        check_number("utilisation", self.utilisation, 0, 1, above=True)
        check_number("devices", self.devices, 1)


@dataclass
class RunSettings:
    """What a plan takes from the trainer.

    Args:
        precision: Number format of training.
        max_steps: Optimizer steps.
        devices: Devices of a node, or `auto` (1).
        num_nodes: Nodes.
        strategy: How devices share the work.
    """

    precision: str | int | None = "32-true"
    max_steps: int = -1
    devices: int | str | list[int] = 1
    num_nodes: int = 1
    strategy: Any = "auto"

    def count(self) -> int:
        """Devices of all nodes."""
        given = self.devices
        each = len(given) if isinstance(given, list) else given if isinstance(given, int) else 1
        return max(each, 1) * self.num_nodes


def plan(
    module: UnlearnModule, data: UnlearnDataModule, trainer: RunSettings, options: Options
) -> bool:
    """Make the plan, print it and write it.

    Returns:
        Whether the run fits the device; true where none was named.

    Raises:
        InputError: Something that `fit` would refuse, or a model's config that cannot be reached.
    """
    check_names(module.objectives.keys(), data.objectives.keys())
    objectives = {n: o for n, o in module.objectives.items() if isinstance(o, Objective)}
    if module.__dict__["teacher"] is None:
        check_teacher(objectives.values())
    device = None if options.device is None else find_device(options.device)
    setting = setting_of(module, data, trainer, options, device)
    rows, remarks = rows_of(module, data, options)
    steps = max(trainer.max_steps, 1)
    made = make_plan(
        setting,
        objectives,
        rows,
        steps,
        device,
        memory=options.memory,
        utilisation=options.utilisation,
    )
    remarks += list(_remarks(setting, trainer, device, options))
    show(made, Console(width=None if sys.stdout.isatty() else _WIDTH), remarks)
    if options.output is not None:
        write_text(options.output, json_text(as_json(made, remarks), indent=1))
    return made.fits is not False


def setting_of(
    module: UnlearnModule,
    data: UnlearnDataModule,
    trainer: RunSettings,
    options: Options,
    device: Device | None,
) -> Setting:
    """The run's switches.

    Raises:
        InputError: The shape of the model cannot be reached, or a precision is not supported.
    """
    precision, source = str(trainer.precision), module.source
    weights, _, _ = number_formats(precision, source.dtype)
    devices = options.devices or trainer.count()
    sharing = str(trainer.strategy).lower()
    strategy: Strategy = options.strategy or ("fsdp2" if "fsdp" in sharing else "ddp")
    return Setting(
        source=source,
        config=model_config(source, options.architecture),
        precision=precision,
        teacher=module.__dict__["teacher"],
        gathered=_gathered(module),
        combination=module.combination,
        # adapters are held in float32, whatever the model is
        optimizer_bytes=state_bytes(module.make_optimizer, 4 if source.lora else weights),
        micro_batch_rows=data.micro_batch_rows,
        accelerator="gpu" if device is None else device.kind,
        strategy=strategy,
        devices=devices,
        gather_half="fsdp" not in sharing or "bfloat16" in sharing,
    )


def _gathered(module: UnlearnModule) -> Gathered:
    if module.weighting.needs_gramian or module.combination is not None:
        return "kept"
    if module.diagnostics_every == 0:
        return "added up"
    return "sketch" if module.diagnostics == "sketch" else "exact diagnostics"


def rows_of(
    module: UnlearnModule, data: UnlearnDataModule, options: Options
) -> tuple[Rows, list[str]]:
    """The rows, and what has to be said about them."""
    if options.rows == "assumed":
        return assumed_rows(data, options.lengths), []
    other = options.tokenizer
    source = module.source if other is None else replace(module.source, path=other, revision=None)
    try:
        encoder = Encoder(load_tokenizer(source), data.max_length, data.on_problem)
        return read_rows(data, encoder), []
    except InputError as error:
        if options.rows == "read":
            raise
        reason = str(error).splitlines()[0]
    remark = f"Lengths are assumed (--lengths.*), since rows cannot be measured: {reason}"
    return assumed_rows(data, options.lengths), [remark]


def _remarks(
    setting: Setting, trainer: RunSettings, device: Device | None, options: Options
) -> Iterator[str]:
    if trainer.max_steps < 1:
        yield "trainer.max_steps is not set; the size of a cache is that for one step."
    if setting.gather_half and setting.precision == "bf16-mixed":
        yield (
            "fsdp2 is planned with `gather_dtype: bfloat16` of FSDP2Strategy; without it autocast "
            "keeps a copy of all weights on every device."
        )
    if device is None:
        return
    share = options.utilisation or device.utilisation
    measured = "measured" if device.kind == "cpu" else "not measured here"
    yield (
        f"{options.device}: {device.source}. Times are for {share:.0%} of its peak in matrix "
        f"products ({measured}; --utilisation sets it)."
    )
    if trainer.count() > 1 or options.devices:
        yield "Figures for several devices come from formulas; none was measured."
