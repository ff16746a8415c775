"""EMATeacher: an exponential moving average of the student."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lit_unlearn.distributed.ranks import is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.teachers.teacher import Teacher, attached
from lit_unlearn.utils.library_internals import interpolate_

__all__ = ["EMATeacher"]


class EMATeacher(Teacher):
    """An exponential moving average of the student's weights.

    ``teacher <- decay * teacher + (1 - decay) * student`` after each optimizer step (Tarvainen and
    Valpola 2017, arXiv 1703.01780, Eq. 3). It starts as the start model and is saved in
    checkpoints.

    Args:
        decay: Weight of the previous average at each step, in [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InputError(
                f"Parameter `decay` of EMATeacher should lie in [0, 1). Found {decay}; for a "
                "teacher that never changes use FrozenTeacher."
            )
        self.decay = decay
        self._model: nn.Module | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        if source.lora is not None:
            raise InputError(
                "Parameter `model.teacher` is EMATeacher, which averages all weights, but "
                "`model.student.lora` trains adapters only. Use AdapterOffTeacher or FrozenTeacher."
            )
        # Lightning expects a registered module in training mode; every forward pass of the teacher
        # sets evaluation mode anyway.
        self._model = load_base(source, sliced=is_sharded(student)).requires_grad_(False).train()

    def model(self) -> nn.Module:
        return attached(self._model, self)

    def identity(self) -> str:
        return "EMATeacher"  # the start model, until the first step

    def saved_module(self) -> nn.Module | None:
        return self._model

    @torch.no_grad()
    def after_step(self, student: nn.Module) -> None:
        """Move the average; slices of sharded weights move in place, without communication."""
        interpolate_(_local(self.model()), _local(student), 1 - self.decay)


def _local(model: nn.Module) -> list[Tensor]:
    """Return a model's parameters; of sharded ones the slices of this process."""
    return [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]
