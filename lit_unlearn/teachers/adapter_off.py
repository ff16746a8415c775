"""AdapterOffTeacher: the student without its adapters."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import StoredTrunk, evaluating
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.teachers.cache.build import cached_reader
from lit_unlearn.teachers.cache.head import CachedReader
from lit_unlearn.teachers.teacher import Teacher, attached
from lit_unlearn.types import Tokens

__all__ = ["AdapterOffTeacher"]


class AdapterOffTeacher(Teacher):
    """The student with its adapters switched off: the start model without a second copy.

    Needs `model.student.lora`.

    Args:
        cache: Read every row that the run needs once, before the first step, and keep the results
            on disk; see FrozenTeacher.
    """

    def __init__(self, cache: bool | str = False) -> None:
        self.cache = cache
        self._student: nn.Module | None = None
        self._cached: CachedReader | None = None
        self._source: ModelSource | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        if source.lora is None or not hasattr(student, "disable_adapter"):
            raise InputError(
                "Parameter `model.teacher` is AdapterOffTeacher, which needs adapters. Found "
                "`model.student.lora` unset; set it, or use FrozenTeacher."
            )
        self._student, self._source = student, source

    def model(self) -> nn.Module:
        """Return the student, which gives the teacher's logits inside `speaking` only."""
        return attached(self._student, self)

    def speaking(self) -> AbstractContextManager[None]:
        return _adapters_off(self.model())

    def identity(self) -> str:
        return "AdapterOffTeacher"

    def logits(self, tokens: Tokens) -> Tensor:
        if self._cached is None:
            return super().logits(tokens)
        with self.speaking():
            return self._cached.logits(tokens)

    def foresee(self, requests: Iterable[Tokens], trunk: StoredTrunk | None = None) -> None:
        if self.cache is not False and self._cached is None:
            source = attached(self._source, self)
            self._cached = cached_reader(self, requests, self.cache, source, trunk)


@contextmanager
def _adapters_off(student: Any) -> Iterator[None]:
    """Set evaluation mode and switch adapters off; restore both afterwards."""
    trained = [(parameter, parameter.requires_grad) for parameter in student.parameters()]
    try:
        with evaluating(student), student.disable_adapter():
            yield
    finally:  # peft makes all adapters trainable when it switches them on again
        for parameter, before in trained:
            parameter.requires_grad_(before)
