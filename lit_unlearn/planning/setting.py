"""From a config's parts to what can be planned: the switches of a run, and the `Run` they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import PretrainedConfig

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.combination import SAGO, Combination
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.architectures import model_config
from lit_unlearn.planning.layout import Layout, student_layout, teacher_layout
from lit_unlearn.planning.run import Run, Strategy, Teaching
from lit_unlearn.teachers import (
    AdapterOffTeacher,
    ContrastTeacher,
    EMATeacher,
    FrozenTeacher,
    Teacher,
)

Gathered = Literal["kept", "exact diagnostics", "sketch", "added up"]
"""What becomes of the objectives' gradients: kept in every step, or on diagnosed steps, or not."""


@dataclass(frozen=True)
class Setting:
    """What decides memory and time, and what a switch can change."""

    source: ModelSource
    config: PretrainedConfig
    precision: str
    teacher: Teacher | None
    gathered: Gathered
    combination: Combination | None
    optimizer_bytes: float
    """State of one trained element."""
    micro_batch_rows: int | None
    accelerator: Literal["cpu", "gpu"] = "gpu"
    strategy: Strategy = "single"
    devices: int = 1
    gather_half: bool = True
    """Whether `fsdp2` gathers weights in bfloat16 where matrices are multiplied in it."""


def run_of(setting: Setting) -> Run:
    """Everything that the figures depend on but the rows.

    Raises:
        InputError: Adapters or patterns that do not fit the model, or a precision that is not
            supported.
    """
    weights, compute, mixed = number_formats(setting.precision, setting.source.dtype)
    half = mixed and setting.gather_half and setting.strategy == "fsdp2" and setting.devices > 1
    return Run(
        student=_known(student_layout, setting.source, setting.config, weights),
        teaching=teaching_of(setting, weights),
        compute_bytes=compute,
        mixed=mixed and not half,
        checkpointing=setting.source.activation_checkpointing,
        eager=setting.source.attention == "eager",
        kept=setting.gathered in ("kept", "exact diagnostics"),
        further=0 if setting.combination is None else 2 * isinstance(setting.combination, SAGO),
        sketched=setting.gathered == "sketch",
        optimizer_bytes=setting.optimizer_bytes,
        accelerator=setting.accelerator,
        strategy="single" if setting.devices == 1 else setting.strategy,
        devices=setting.devices,
        gathered_bytes=2 if half else weights,
    )


def number_formats(precision: str, dtype: str) -> tuple[int, int, bool]:
    """Bytes of a weight, bytes in matrix products, and whether weights are cast for these.

    Args:
        precision: `trainer.precision`.
        dtype: `model.student.dtype`.

    Raises:
        InputError: A precision that training refuses or that is not known here.
    """
    held = 4 if dtype == "float32" else 2
    if precision in ("32", "32-true", "None"):
        return held, held, False
    if precision == "bf16-mixed":
        return held, 2, held == 4
    if precision in ("bf16", "bf16-true", "16-true"):
        return 2, 2, False
    raise InputError(
        "Parameter `trainer.precision` should be 32-true, bf16-mixed or bf16-true for a plan. "
        f"Found {precision}."
    )


_LAYOUTS: dict[str, Layout] = {}


def _known(make: Callable[..., Layout], source: ModelSource | None, *rest: Any) -> Layout:
    """A layout, counted once for each shape and choice of what is trained."""
    config, size = rest
    chosen = None if source is None else (source.lora, source.trainable)
    key = f"{chosen} {size} {config.to_json_string()}"
    if key not in _LAYOUTS:
        _LAYOUTS[key] = make(config, size) if source is None else make(source, config, size)
    return _LAYOUTS[key]


def teaching_of(setting: Setting, weights: int) -> Teaching:
    """The teacher's models, of the student's shape unless they are found elsewhere."""
    teacher, config = setting.teacher, setting.config
    if teacher is None:
        return Teaching(None)
    own: Any = getattr(teacher, "dtype", None)
    wide = weights if setting.precision.endswith("true") and weights == 2 else None
    size = wide or ({"float32": 4}.get(own, 2) if own else weights)
    path = getattr(teacher, "path", None)
    if isinstance(teacher, FrozenTeacher) and path is not None:
        config = _other(path, config)
    layout = _known(teacher_layout, None, config, size)
    if isinstance(teacher, FrozenTeacher):
        return Teaching(layout, 1, cached=teacher.cache is not False)
    if isinstance(teacher, AdapterOffTeacher):
        return Teaching(layout, 0, cached=teacher.cache is not False)
    if isinstance(teacher, ContrastTeacher):
        return Teaching(layout, 2, fixed=False)
    if isinstance(teacher, EMATeacher):
        return Teaching(_known(teacher_layout, None, config, weights), 1, fixed=False)
    return Teaching(layout, 1, fixed=False)


def _other(path: str, config: PretrainedConfig) -> PretrainedConfig:
    """The shape of another model; the student's where it cannot be reached."""
    try:
        return model_config(ModelSource(path))
    except InputError:
        return config


def state_bytes(make: Callable[[Any], torch.optim.Optimizer], element_bytes: int) -> float:
    """State of an optimizer for one element: it takes a step with a small matrix.

    Args:
        make: Makes the optimizer of a list of parameters.
        element_bytes: Of a trained weight.
    """
    dtype = torch.bfloat16 if element_bytes == 2 else torch.float32
    parameter = nn.Parameter(torch.zeros(64, 64, dtype=dtype))
    parameter.grad = torch.ones_like(parameter)
    optimizer = make([parameter])
    optimizer.step()
    held = [t for t in optimizer.state[parameter].values() if isinstance(t, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in held if t.numel() > 1) / parameter.numel()
