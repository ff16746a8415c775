"""FrozenTeacher: a frozen copy of the start model, or of another one."""

from collections.abc import Iterable

from torch import Tensor, nn

from lit_unlearn.distributed.ranks import is_sharded
from lit_unlearn.errors import InputError
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import StoredTrunk
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.teachers.cache.build import cached_reader
from lit_unlearn.teachers.cache.head import CachedReader
from lit_unlearn.teachers.teacher import Teacher, attached, check_vocabulary
from lit_unlearn.types import Tokens

__all__ = ["FrozenTeacher"]


class FrozenTeacher(Teacher):
    """A frozen copy of the start model.

    Args:
        dtype: The copy's dtype; null for the student's. `auto` is bfloat16, which halves memory and
            time, if the device multiplies it natively, else float32.
        path: Another model as teacher (same vocabulary): hub id or folder; null for the start
            model.
        cache: Read every row that the run needs once, before the first step, and keep the results
            on disk: true keeps them in the user's cache (see LIT_UNLEARN_CACHE), a text names
            another folder. Training then needs the teacher's output head only; the rest is removed
            from memory. An answer token takes the model's width times the bytes of its dtype
            (1,152 for a width of 576 in bfloat16). Later runs with the same teacher read only rows
            that are not in the cache yet, for any seed, objectives or weighting.
    """

    def __init__(
        self, dtype: DType | None = None, path: str | None = None, cache: bool | str = False
    ) -> None:
        self.dtype, self.path, self.cache = dtype, path, cache
        self._model: nn.Module | None = None
        self._cached: CachedReader | None = None
        self._source: ModelSource | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        self._source = source if self.path is None else ModelSource(self.path, dtype=source.dtype)
        model = load_base(self._source, self.dtype, sliced=is_sharded(student))
        check_vocabulary(model, student, self)
        self._model = model.requires_grad_(False)

    def model(self) -> nn.Module:
        if self._cached is not None:
            raise InputError(
                "Parameter `model.teacher.init_args.cache` should be false if the teacher "
                "generates after training has started. Found it set: only its output head is left."
            )
        return attached(self._model, self)

    def models(self) -> list[nn.Module]:
        return [] if self._cached is not None else super().models()

    def logits(self, tokens: Tokens) -> Tensor:
        return super().logits(tokens) if self._cached is None else self._cached.logits(tokens)

    def foresee(self, requests: Iterable[Tokens], trunk: StoredTrunk | None = None) -> None:
        if self.cache is not False and self._cached is None:
            source = attached(self._source, self)
            self._cached = cached_reader(self, requests, self.cache, source, trunk)
            self._model = None

    def identity(self) -> str:
        other = "" if self.path is None else fingerprint(self.path)
        return f"FrozenTeacher {self.dtype} {other}"

    def unsaved_module(self) -> nn.Module | None:
        return self._model if self._cached is None else self._cached.head.module
