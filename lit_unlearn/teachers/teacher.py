"""Teachers: where target logits come from. They stay out of checkpoints and optimizers.

A teacher is a plain object and no `nn.Module`, so that a model that holds it does not register its
weights. The contexts that a teacher sees in front of a question are part of its token ids; see
`lit_unlearn.data.contexts`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lit_unlearn.distributed.ranks import is_sharded, rank
from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import FrozenReader, answer_logits, evaluating
from lit_unlearn.models.hidden import hidden_states
from lit_unlearn.models.loading import DType, ModelSource, load_base
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers.cache.cache import CachedReader, cache_folder, cached
from lit_unlearn.types import Tokens


class Teacher(ABC):
    """Gives target logits; `attach` must come first."""

    @abstractmethod
    def attach(self, student: nn.Module, source: ModelSource) -> None:
        """Get ready: load or copy what is needed. The student has its start weights."""

    @abstractmethod
    def logits(self, tokens: Tokens) -> Tensor:
        """``[N, V]`` float32 logits without gradient; dropout is off."""

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """``[D, N, d]`` hidden states without gradient; see `lit_unlearn.models.hidden`."""
        with torch.no_grad(), self.speaking():
            return hidden_states(self.model(), tokens, depths)

    @abstractmethod
    def model(self) -> nn.Module:
        """The model to generate with, for example the teacher's own answers."""

    def models(self) -> list[nn.Module]:
        """All models that it reads, to be sharded and read together where there are processes."""
        return [self.model()]

    def speaking(self) -> Any:
        """Context manager inside which `model` speaks as the teacher (evaluation mode)."""
        return evaluating(self.model())

    def foresee(self, requests: Iterable[Tokens]) -> None:
        """Called once before training with all that `logits` will be asked for; for a cache."""
        return

    def identity(self) -> str:
        """Changes when the teacher's start weights do, beyond those of the student's."""
        return type(self).__name__

    def saved_module(self) -> nn.Module | None:
        """Weights that belong into checkpoints because they cannot be loaded again; or None."""
        return None

    def unsaved_module(self) -> nn.Module | None:
        """Weights that must follow the student's device and number format, but are not saved."""
        return None

    def after_step(self, student: nn.Module) -> None:
        """Called after each optimizer step; only a moving teacher does something then."""
        return

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """Copies of a training module share the teacher."""
        return self


class FrozenTeacher(Teacher):
    """A frozen copy of the start model.

    Args:
        dtype: Number format; null for the student's. bfloat16 halves the memory and, on CPUs and
            GPUs that have it, the time.
        path: Another model as teacher (same vocabulary): hub id or folder; null for the start
            model.
        cache: Read every row that the run needs once, before the first step, and keep the results
            on disk: true keeps them in the user's cache (see LIT_UNLEARN_CACHE), a text names
            another folder. Training then needs only the teacher's output head; the rest leaves
            memory. An answer token takes the model's width times the bytes of its number format
            (1,152 for a width of 576 in bfloat16). Later runs with the same teacher, whatever
            their seed, objectives or weighting, read only rows that are not there yet.
    """

    def __init__(
        self, dtype: DType | None = None, path: str | None = None, cache: bool | str = False
    ) -> None:
        self.dtype = dtype
        self.path = path
        self.cache = cache
        self._model: nn.Module | None = None
        self._cached: CachedReader | None = None
        self._source: ModelSource | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        own = source if self.path is None else ModelSource(self.path, dtype=source.dtype)
        model = load_base(own, self.dtype, sliced=is_sharded(student))
        check_vocabulary(model, student, self)
        self._model = model.requires_grad_(False).eval()
        self._source = own

    def model(self) -> nn.Module:
        if self._cached is not None:
            raise InputError(
                "Parameter `model.teacher.init_args.cache` should be false where the teacher "
                "speaks after training has started. Found it set: only its output head is left."
            )
        return attached(self._model, self)

    def models(self) -> list[nn.Module]:
        """See `Teacher.models`; none where only the output head is left."""
        return [] if self._cached is not None else super().models()

    def logits(self, tokens: Tokens) -> Tensor:
        if self._cached is not None:
            return self._cached.logits(tokens)
        return FrozenReader(self.model()).logits(tokens)

    def foresee(self, requests: Iterable[Tokens]) -> None:
        """With a cache: read what is not in it yet, and keep only the output head."""
        if self.cache is False or self._cached is not None:
            return
        folder = _folder(self.cache, self.model(), self._source)
        self._cached = cached(self, requests, folder, Console(stderr=True, quiet=rank() > 0))
        self._model = None

    def identity(self) -> str:
        other = "" if self.path is None else fingerprint(self.path)
        return f"FrozenTeacher {self.dtype} {other}"

    def unsaved_module(self) -> nn.Module | None:
        """The copy, or what is left of it."""
        return self._model if self._cached is None else self._cached.head.module


class EMATeacher(Teacher):
    """An exponential moving average of the student's weights.

    ``teacher <- decay * teacher + (1 - decay) * student`` after each optimizer step (Tarvainen and
    Valpola 2017, arXiv 1703.01780, Eq. 3). It starts as the start model and is saved in
    checkpoints.

    Args:
        decay: How much of the average stays at each step, in [0, 1).
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
        # in training mode, as Lightning expects of a registered module; each reading is in
        # evaluation mode all the same
        self._model = load_base(source, sliced=is_sharded(student)).requires_grad_(False).train()

    def model(self) -> nn.Module:
        return attached(self._model, self)

    def logits(self, tokens: Tokens) -> Tensor:
        return FrozenReader(self.model()).logits(tokens)

    def saved_module(self) -> nn.Module | None:
        """The average: it cannot be loaded again."""
        return self._model

    @torch.no_grad()
    def after_step(self, student: nn.Module) -> None:
        """Move the average; shards in place, without communication."""
        mine = [_local(p) for p in self.model().parameters()]
        theirs = [_local(p.detach()) for p in student.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - self.decay)


class AdapterOffTeacher(Teacher):
    """The student with its adapters switched off: the start model without a second copy.

    Needs `model.student.lora`.

    Args:
        cache: Read every row that the run needs once, before the first step, and keep the results
            on disk; see FrozenTeacher.
    """

    def __init__(self, cache: bool | str = False) -> None:
        self.cache = cache
        self._student: Any = None
        self._cached: CachedReader | None = None
        self._source: ModelSource | None = None

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        if source.lora is None or not hasattr(student, "disable_adapter"):
            raise InputError(
                "Parameter `model.teacher` is AdapterOffTeacher, which needs adapters. Found "
                "`model.student.lora` unset; set it, or use FrozenTeacher."
            )
        self._student = student
        self._source = source

    def model(self) -> nn.Module:
        """The student; it speaks as the teacher inside `speaking`."""
        return attached(self._student, self)

    def speaking(self) -> Any:
        return _adapter_off(self.model())

    def logits(self, tokens: Tokens) -> Tensor:
        with torch.no_grad(), self.speaking():
            if self._cached is not None:
                return self._cached.logits(tokens)
            return answer_logits(self.model(), tokens)

    def foresee(self, requests: Iterable[Tokens]) -> None:
        """With a cache: read what is not in it yet."""
        if self.cache is False or self._cached is not None:
            return
        folder = _folder(self.cache, self.model(), self._source)
        self._cached = cached(self, requests, folder, Console(stderr=True, quiet=rank() > 0))


@contextmanager
def _adapter_off(student: Any) -> Iterator[None]:
    """Evaluation mode with adapters off; afterwards the same parameters are trained as before."""
    trained = [(parameter, parameter.requires_grad) for parameter in student.parameters()]
    try:
        with evaluating(student), student.disable_adapter():
            yield
    finally:  # switched on again, all adapters would be
        for parameter, before in trained:
            parameter.requires_grad_(before)


def attached(model: nn.Module | None, teacher: Teacher) -> nn.Module:
    """A teacher's model, or an error where it has none yet."""
    if model is None:
        raise RuntimeError(f"{type(teacher).__name__}.attach should be called before it is read.")
    return model


def _folder(cache: bool | str, model: nn.Module, source: ModelSource | None) -> Path:
    """The folder of a teacher's cache: one for each content, number format and attention."""
    if source is None:
        raise RuntimeError("Teacher.attach should be called before Teacher.foresee.")
    weights = (fingerprint(source.path, source.revision), source.attention)
    seed = source.seed if source.path == TINY_NAME else None
    root = Path(cache) if isinstance(cache, str) else None
    return cache_folder(root, (*weights, seed, next(model.parameters()).dtype))


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def check_vocabulary(model: Any, student: Any, teacher: Any) -> None:
    """See that a teacher's model has the student's tokens.

    Raises:
        InputError: The sizes of the vocabularies differ.
    """
    if model.config.vocab_size != student.config.vocab_size:
        raise InputError(
            f"Parameter `path` of {type(teacher).__name__} should name a model with the student's "
            f"vocabulary of {student.config.vocab_size} tokens. Found {teacher.path!r} with "
            f"{model.config.vocab_size}."
        )
