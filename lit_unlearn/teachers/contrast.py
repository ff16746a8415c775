"""ContrastTeacher: the start model's logits, lowered where training on forget rows raised them."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lit_unlearn.distributed.ranks import is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import FrozenReader, evaluating
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.teachers.teacher import Teacher, attached, check_vocabulary
from lit_unlearn.types import Tokens

__all__ = ["ContrastTeacher", "contrast"]


def contrast(base: Tensor, reinforced: Tensor, scale: float) -> Tensor:
    """Return ``v_base - scale relu(v_reinforced - v_base)``: lower what reinforcement raised.

    Eldan and Russinovich 2023, arXiv 2310.02238, Eq. 1. Logits are ``[..., V]``; ``reinforced``
    are those of the model trained further on the forget rows.
    """
    return base - scale * (reinforced - base).relu()


class ContrastTeacher(Teacher):
    """Who's Harry Potter: start logits, lowered where a reinforced model's are higher.

    Logits ``v_base - scale relu(v_reinforced - v_base)``. The base is the start model; the
    reinforced model is the start model trained further on the forget rows. Distil the logits with
    ForwardKL on the forget rows (the paper takes their most probable token as label). The
    muse_bench baseline uses the same formula with scale 1 as an ensemble at inference, without
    training. Two models are kept in memory, and both are read. Hidden states are not contrasted,
    so objectives on hidden states need another teacher.

    Source: Eldan and Russinovich 2023, arXiv 2310.02238, Eq. 1.

    Args:
        path: The reinforced model (same vocabulary): hub id or folder.
        scale: Factor of the difference that is subtracted from the base's logits.
        dtype: The dtype of both models; null for the student's, `auto` as for `FrozenTeacher`.
    """

    def __init__(self, path: str, scale: float = 1.0, dtype: DType | None = None) -> None:
        if not scale > 0:
            raise InputError(
                f"Parameter `scale` of ContrastTeacher should be above 0. Found {scale}; for the "
                "start model itself use FrozenTeacher."
            )
        self.path, self.scale, self.dtype = path, scale, dtype
        self._base: nn.Module | None = None
        self._reinforced: nn.Module | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        other = ModelSource(self.path, dtype=source.dtype, attention=source.attention)
        sliced = is_sharded(student)
        reinforced = load_base(other, self.dtype, sliced=sliced)
        check_vocabulary(reinforced, student, self)
        self._reinforced = reinforced.requires_grad_(False)
        self._base = load_base(source, self.dtype, sliced=sliced).requires_grad_(False)

    def model(self) -> nn.Module:
        """Return the base, whose logits are the contrast inside `speaking`."""
        return attached(self._base, self)

    def models(self) -> list[nn.Module]:
        return [self.model(), attached(self._reinforced, self)]

    def speaking(self) -> AbstractContextManager[None]:
        return _contrasting(self.model(), attached(self._reinforced, self), self.scale)

    def logits(self, tokens: Tokens) -> Tensor:
        base = FrozenReader(self.model()).logits(tokens)
        reinforced = FrozenReader(attached(self._reinforced, self)).logits(tokens)
        return contrast(base, reinforced, self.scale)

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """Refuse with an `InputError`; only logits are contrasted."""
        raise InputError(
            "Parameter `model.teacher` is ContrastTeacher, which has logits only. Found an "
            "objective that reads hidden states; use FrozenTeacher, or an objective on logits."
        )

    def identity(self) -> str:
        return f"ContrastTeacher {self.dtype} {self.scale} {fingerprint(self.path)}"

    def unsaved_module(self) -> nn.Module | None:
        if self._base is None or self._reinforced is None:
            return None
        return nn.ModuleList([self._base, self._reinforced])


@contextmanager
def _contrasting(base: nn.Module, reinforced: nn.Module, scale: float) -> Iterator[None]:
    """Set evaluation mode; every forward pass of the base then returns the contrast's logits.

    During generation each key-value cache of the base is paired with one of the reinforced model.
    """
    config: Any = reinforced.config
    caches: WeakKeyDictionary[Any, DynamicCache] = WeakKeyDictionary()

    def subtract(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        cache, own = kwargs.get("past_key_values"), None
        if cache is not None:
            own = caches.setdefault(cache, DynamicCache(config=config))
        with torch.no_grad():
            other: Any = reinforced(*args, **{**kwargs, "past_key_values": own})
        logits = contrast(output.logits.float(), other.logits.float(), scale)
        output.logits = logits.to(output.logits.dtype)
        return output

    with evaluating(base):
        handle = base.register_forward_hook(subtract, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
