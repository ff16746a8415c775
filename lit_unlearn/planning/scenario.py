"""Settings of a run that determine its memory and FLOPs, and the resulting sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn
from transformers import PretrainedConfig

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.architectures import model_config
from lit_unlearn.planning.layout import Layout, student_layout, teacher_layout
from lit_unlearn.planning.traffic import Traffic
from lit_unlearn.teachers import (
    AdapterOffTeacher,
    ContrastTeacher,
    EMATeacher,
    FrozenTeacher,
    Teacher,
)
from lit_unlearn.training.module import UnlearnModule

__all__ = [
    "Gradients",
    "Scenario",
    "Strategy",
    "TeacherModels",
    "number_formats",
    "optimizer_costs",
    "scenario_of",
]

Gradients = Literal["kept", "exact diagnostics", "sketch", "added up"]
"""Handling of the objectives' gradients: kept in every step, kept on diagnosed steps, sketched on
diagnosed steps, or added up at once."""
Strategy = Literal["ddp", "fsdp2"]


@dataclass(frozen=True)
class TeacherModels:
    """The models of a teacher."""

    layout: Layout | None
    """Shape of one of them; None without a teacher."""
    copies: int = 1
    """Number of models in memory; 0 if the teacher is the student itself."""
    cached: bool = False
    """Whether a cache leaves only the output head in memory."""
    fixed: bool = True
    """Whether the logits can be cached: they come from one model whose weights do not change."""


@dataclass(frozen=True)
class Scenario:
    """Settings of a run that its memory and FLOPs depend on, without the rows."""

    source: ModelSource
    config: PretrainedConfig
    precision: str
    teacher: Teacher | None
    gradients: Gradients
    optimizer_bytes: float
    """Bytes of optimizer state per trained element."""
    optimizer_moved: float = 0.0
    """Elements that the optimizer reads and writes per trained element."""
    further_gradients: int = 0
    """Gradients that a combination needs besides those of the objectives."""
    micro_batch_rows: int | None = None
    accelerator: Literal["cpu", "gpu"] = "gpu"
    strategy: Strategy = "ddp"
    devices: int = 1
    gather_half: bool = True
    """Whether `fsdp2` gathers weights in bfloat16 if matrix products use it."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight of the student."""
        return number_formats(self.precision, self.source.dtype)[0]

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in matrix products, c in the formulas."""
        return number_formats(self.precision, self.source.dtype)[1]

    @property
    def mixed(self) -> bool:
        """Whether autocast casts float32 weights for matrix products, and keeps the casts."""
        return self._casts and not self._gathers_half

    @property
    def residual_bytes(self) -> int:
        """Bytes of a number of the hidden states between blocks, r in the formulas."""
        return 4 if self.mixed else self.compute_bytes

    @property
    def gathered_bytes(self) -> int:
        """Bytes of a weight that `fsdp2` has gathered."""
        return 2 if self._gathers_half else self.weight_bytes

    @property
    def sharded(self) -> bool:
        """Whether weights, gradients and optimizer are divided among devices."""
        return self.strategy == "fsdp2" and self.devices > 1

    @property
    def stored_trunk(self) -> bool:
        """Whether the student's passes start above stored outputs of its trunk."""
        wanted = self.source.cache_trunk is not False and self.source.noise is None
        return wanted and not self.sharded and self.student.lowest > 0

    @property
    def sharing(self) -> str:
        """The strategy, or `single` for one device."""
        return "single" if self.devices == 1 else self.strategy

    @property
    def keeps_gradients(self) -> bool:
        """Whether some step keeps the gradients of all objectives at once."""
        return self.gradients in ("kept", "exact diagnostics")

    @property
    def _casts(self) -> bool:
        return number_formats(self.precision, self.source.dtype)[2]

    @property
    def _gathers_half(self) -> bool:
        return self._casts and self.gather_half and self.sharded

    @cached_property
    def student(self) -> Layout:
        """Shape of the student.

        Raises:
            InputError: Adapters or patterns do not fit the model.
        """
        key = (self.source.lora, self.source.trainable)
        return _counted(
            key,
            self.config,
            self.weight_bytes,
            lambda config, size: student_layout(self.source, config, size),
        )

    @cached_property
    def teaching(self) -> TeacherModels:
        """The teacher's models; they have the student's shape unless the teacher names a path."""
        teacher, config, size = self.teacher, self.config, self.weight_bytes
        if teacher is None:
            return TeacherModels(None)
        own: Any = getattr(teacher, "dtype", None)
        if own is not None and not (self.precision.endswith("true") and size == 2):
            size = {"float32": 4, "auto": self.compute_bytes}.get(own, 2)
        if isinstance(teacher, FrozenTeacher) and teacher.path is not None:
            config = _config_or(teacher.path, config)
        layout = _counted(None, config, size, teacher_layout)
        match teacher:
            case FrozenTeacher():
                return TeacherModels(layout, 1, cached=teacher.cache is not False)
            case AdapterOffTeacher():
                return TeacherModels(layout, 0, cached=teacher.cache is not False)
            case ContrastTeacher():
                return TeacherModels(layout, 2, fixed=False)
            case EMATeacher():
                layout = _counted(None, config, self.weight_bytes, teacher_layout)
        return TeacherModels(layout, 1, fixed=False)

    def shard(self, size: float) -> int:
        """Return the share of one device in a size that `fsdp2` divides among devices."""
        return round(size / self.devices if self.sharded else size)


def scenario_of(
    module: UnlearnModule,
    data: UnlearnDataModule,
    *,
    precision: str = "32-true",
    strategy: Strategy = "ddp",
    devices: int = 1,
    gather_half: bool = True,
    architecture: str | None = None,
) -> Scenario:
    """Return the settings of a run as a scenario.

    Raises:
        InputError: The shape of the model cannot be reached, or the precision is not supported.
    """
    source = module.source
    # adapters are float32 for every dtype of the model
    held = 4 if source.lora else number_formats(precision, source.dtype)[0]
    state, moved = optimizer_costs(module.make_optimizer, held)
    return Scenario(
        source=source,
        config=model_config(source, architecture),
        precision=precision,
        teacher=module.teacher,
        gradients=_gradients(module),
        optimizer_bytes=state,
        optimizer_moved=moved,
        further_gradients=module.combination.further_gradients if module.combination else 0,
        micro_batch_rows=data.micro_batch_rows,
        strategy=strategy,
        devices=devices,
        gather_half=gather_half,
    )


def _gradients(module: UnlearnModule) -> Gradients:
    if module.weighting.needs_gramian or module.combination is not None:
        return "kept"
    if module.diagnostics_every == 0:
        return "added up"
    return "sketch" if module.diagnostics == "sketch" else "exact diagnostics"


def number_formats(precision: str, dtype: str) -> tuple[int, int, bool]:
    """Return bytes of a weight, bytes in matrix products, and whether autocast casts weights.

    Args:
        precision: `trainer.precision`.
        dtype: `model.student.dtype`.

    Raises:
        InputError: The precision is not supported.
    """
    held = 4 if dtype == "float32" else 2
    if precision in ("32", "32-true", "None"):
        return held, held, False
    if precision == "bf16-mixed":
        return held, 2, held == 4
    if precision in ("bf16", "bf16-true", "16-true"):
        return 2, 2, False
    raise InputError(
        "Parameter `trainer.precision` should be auto, 32-true, bf16-mixed or bf16-true for a "
        f"plan. Found {precision}."
    )


_LAYOUTS: dict[str, Layout] = {}


def _counted(
    key: object,
    config: PretrainedConfig,
    size: int,
    count: Callable[[PretrainedConfig, int], Layout],
) -> Layout:
    """Return a layout that is counted once per shape and choice of trained parameters (``key``)."""
    name = f"{key} {size} {config.to_json_string()}"
    if name not in _LAYOUTS:
        _LAYOUTS[name] = count(config, size)
    return _LAYOUTS[name]


def _config_or(path: str, config: PretrainedConfig) -> PretrainedConfig:
    """Return the config of another model, or ``config`` if that cannot be reached."""
    try:
        return model_config(ModelSource(path))
    except InputError:
        return config


def optimizer_costs(
    make: Callable[[Any], torch.optim.Optimizer], element_bytes: int
) -> tuple[float, float]:
    """Return, per trained element, the bytes of state and the elements that a step moves.

    Args:
        make: Function that creates the optimizer for a list of parameters.
        element_bytes: Bytes of a trained weight.
    """
    dtype = torch.bfloat16 if element_bytes == 2 else torch.float32
    parameter = nn.Parameter(torch.zeros(64, 64, dtype=dtype))
    parameter.grad = torch.ones_like(parameter)
    optimizer = make([parameter])
    with Traffic(64) as traffic:
        optimizer.step()
    held = [t for t in optimizer.state[parameter].values() if isinstance(t, torch.Tensor)]
    size = sum(t.numel() * t.element_size() for t in held if t.numel() > 1)
    return size / parameter.numel(), traffic.elements / parameter.numel()
