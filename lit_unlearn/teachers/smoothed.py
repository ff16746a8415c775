"""SmoothedTeacher: the start model with blurred attention, a teacher that needs no context."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.forward import StoredTrunk
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.teachers.frozen import FrozenTeacher
from lit_unlearn.types import Tokens

__all__ = ["SmoothedTeacher", "smooth_attention"]


def smooth_attention(model: nn.Module, temperature: float) -> None:
    """Divide the attention scores of all heads in all decoder blocks, in place.

    Raises:
        InputError: A block has no attention with a `scaling` of its own.
    """
    for block in decoder_blocks(model):
        found: list[Any] = [
            module
            for module in block.modules()
            if isinstance(getattr(module, "scaling", None), float)
        ]
        if not found:
            raise InputError(
                "Parameter `model.student.path` should name a model whose attention has a "
                f"`scaling`, for SmoothedTeacher. Found none in a {type(block).__name__}; use "
                "FrozenTeacher with a context."
            )
        for module in found:
            module.scaling /= temperature


class SmoothedTeacher(FrozenTeacher):
    """A frozen copy of the start model with a raised temperature in the softmax of its attention.

    Attention smoothing (Zare Zade et al. 2026, arXiv 2603.01285): softmax(q k / (tau sqrt d)) in
    every head. Facts blur, which need sharp attention; grammar stays. So the teacher needs no
    context and no instruction following. Distil forget rows with ForwardKL along their own answers,
    ``answer: gold``. Objectives of kept rows must not read this teacher: use CrossEntropy. Formula
    as in Salehzz/ASU-unlearning@2bdc362 (attention_temp).

    Args:
        temperature: tau; published: 2.3 for TOFU, 2 to 2.8 work alike.
        dtype: As in FrozenTeacher.
        path: As in FrozenTeacher.
        cache: As in FrozenTeacher.
    """

    def __init__(
        self,
        temperature: float = 2.3,
        dtype: DType | None = None,
        path: str | None = None,
        cache: bool | str = False,
    ) -> None:
        check_number("model.teacher.init_args.temperature", temperature, 0, above=True)
        super().__init__(dtype, path, cache)
        self.temperature = temperature

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        super().attach(student, source)
        smooth_attention(self.model(), self.temperature)

    def foresee(self, requests: Iterable[Tokens], trunk: StoredTrunk | None = None) -> None:
        super().foresee(requests)  # the student's trunk has the attention of the start model

    def identity(self) -> str:
        return f"{super().identity()} attention {self.temperature}"
