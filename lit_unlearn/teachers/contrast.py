"""ContrastTeacher: what a model says, less what it says more of after learning the forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lit_unlearn.distributed.ranks import is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import FrozenReader, evaluating
from lit_unlearn.models.loading import DType, ModelSource, load_base
from lit_unlearn.teachers.teacher import Teacher, attached, check_vocabulary
from lit_unlearn.types import Tokens


def contrast(base: Tensor, reinforced: Tensor, scale: float) -> Tensor:
    """``v_base - scale relu(v_reinforced - v_base)``: lower what reinforcement raised.

    Eldan and Russinovich 2023, arXiv 2310.02238, Eq. 1.

    Args:
        base: ``[..., V]`` logits of the model that is to forget.
        reinforced: ``[..., V]`` logits of the model trained further on what is to be forgotten.
        scale: How much is taken off.
    """
    return base - scale * (reinforced - base).relu()


class ContrastTeacher(Teacher):
    """Who's Harry Potter: the start model without what a reinforced model would rather say.

    Logits ``v_base - scale relu(v_reinforced - v_base)``, with the start model as base and a
    reinforced model: the start model trained further on the forget rows. Distil them with ForwardKL
    on the forget rows (the paper takes their most probable token as label). The muse_bench baseline
    uses the same formula as an ensemble at inference instead, without training, with scale 1; that
    is what this teacher itself says. Keeps two models in memory and reads both. Hidden states are
    not contrasted, so objectives on these need another teacher.

    Source: Eldan and Russinovich 2023, arXiv 2310.02238, Eq. 1.

    Args:
        path: The reinforced model (same vocabulary): hub id or folder.
        scale: How much of what reinforcement raised is taken off the base's logits.
        dtype: Number format of both models; null for the student's.
    """

    def __init__(self, path: str, scale: float = 1.0, dtype: DType | None = None) -> None:
        if not scale > 0:
            raise InputError(
                f"Parameter `scale` of ContrastTeacher should be above 0. Found {scale}; for the "
                "start model itself use FrozenTeacher."
            )
        self.path = path
        self.scale = scale
        self.dtype = dtype
        self._base: nn.Module | None = None
        self._reinforced: nn.Module | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        other = ModelSource(self.path, dtype=source.dtype, attention=source.attention)
        sliced = is_sharded(student)
        reinforced = load_base(other, self.dtype, sliced=sliced)
        check_vocabulary(reinforced, student, self)
        self._reinforced = reinforced.requires_grad_(False).eval()
        base = load_base(source, self.dtype, sliced=sliced)
        self._base = base.requires_grad_(False).eval()

    def model(self) -> nn.Module:
        """The base; inside `speaking` its logits are the contrast."""
        return attached(self._base, self)

    def models(self) -> list[nn.Module]:
        return [self.model(), attached(self._reinforced, self)]

    def speaking(self) -> Any:
        return _Contrasting(self.model(), attached(self._reinforced, self), self.scale)

    def logits(self, tokens: Tokens) -> Tensor:
        base = FrozenReader(self.model()).logits(tokens)
        reinforced = FrozenReader(attached(self._reinforced, self)).logits(tokens)
        return contrast(base, reinforced, self.scale)

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """Nothing.

        Raises:
            InputError: Always: only logits are contrasted.
        """
        raise InputError(
            "Parameter `model.teacher` is ContrastTeacher, which has logits only. Found an "
            "objective that reads hidden states; use FrozenTeacher, or an objective on logits."
        )

    def identity(self) -> str:
        return f"ContrastTeacher {self.dtype} {self.scale} {fingerprint(self.path)}"

    def unsaved_module(self) -> nn.Module | None:
        """Both models."""
        if self._base is None or self._reinforced is None:
            return None
        return nn.ModuleList([self._base, self._reinforced])


class _Contrasting:
    """Evaluation mode; every forward pass of the base gives the contrast's logits.

    While text is generated, the base's key-value cache is shadowed by one of the reinforced model.
    """

    def __init__(self, base: nn.Module, reinforced: nn.Module, scale: float) -> None:
        self.base, self.reinforced, self.scale = base, reinforced, scale
        self.mode = evaluating(base)
        self.caches: WeakKeyDictionary[Any, DynamicCache] = WeakKeyDictionary()

    def __enter__(self) -> None:
        self.mode.__enter__()
        self.handle = self.base.register_forward_hook(self._subtract, with_kwargs=True)

    def __exit__(self, *details: object) -> None:
        self.handle.remove()
        self.mode.__exit__(*details)

    def _subtract(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        cache = kwargs.get("past_key_values")
        config: Any = self.reinforced.config
        own = None
        if cache is not None:
            own = self.caches.setdefault(cache, DynamicCache(config=config))
        with torch.no_grad():
            other: Any = self.reinforced(*args, **{**kwargs, "past_key_values": own})
        logits = contrast(output.logits.float(), other.logits.float(), self.scale)
        output.logits = logits.to(output.logits.dtype)
        return output
