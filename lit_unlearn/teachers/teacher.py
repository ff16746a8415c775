"""Teacher: the interface of everything that target logits come from.

A teacher is a plain object and no `nn.Module`, so that a module that holds it does not register its
weights: they stay out of checkpoints and optimizers. The contexts that a teacher sees in front of a
question are part of its token ids; see `lit_unlearn.data.contexts`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import StoredTrunk, answer_logits, evaluating
from lit_unlearn.models.hidden import hidden_states
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.types import Tokens

__all__ = ["T", "Teacher", "attached", "check_vocabulary"]

T = TypeVar("T")


class Teacher(ABC):
    """Gives target logits. Call `attach` before anything else."""

    @abstractmethod
    def attach(self, student: nn.Module, source: ModelSource) -> None:
        """Load or copy what is needed. The student has its start weights."""

    @abstractmethod
    def model(self) -> nn.Module:
        """Return the model to generate with, for example the teacher's own answers."""

    def models(self) -> list[nn.Module]:
        """Return all models that are read; with several processes they are sharded together."""
        return [self.model()]

    def speaking(self) -> AbstractContextManager[None]:
        """Return a context manager inside which `model` gives the teacher's logits.

        The model is in evaluation mode there.
        """
        return evaluating(self.model())

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits without gradient and without dropout."""
        with torch.no_grad(), self.speaking():
            return answer_logits(self.model(), tokens)

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """Return ``[D, N, d]`` hidden states without gradient; see `lit_unlearn.models.hidden`."""
        with torch.no_grad(), self.speaking():
            return hidden_states(self.model(), tokens, depths)

    def foresee(self, requests: Iterable[Tokens], trunk: StoredTrunk | None = None) -> None:
        """Prepare for all later requests, for example by filling a cache; called once.

        The teacher will be asked for nothing else. ``trunk`` has stored outputs of the student's
        trunk.
        """
        return

    def identity(self) -> str:
        """Return a text that changes with the teacher's start weights, given the student's."""
        return type(self).__name__

    def saved_module(self) -> nn.Module | None:
        """Return the weights that checkpoints must hold because they cannot be loaded again."""
        return None

    def unsaved_module(self) -> nn.Module | None:
        """Return weights that follow the student's device and dtype but are not saved."""
        return None

    def after_step(self, student: nn.Module) -> None:
        """Follow the student; called after each optimizer step."""
        return

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """Copies of a training module share the teacher."""
        return self


def attached(value: T | None, teacher: Teacher) -> T:
    """Return what `Teacher.attach` has set; before that a `RuntimeError` says so."""
    if value is None:
        raise RuntimeError(f"{type(teacher).__name__}.attach should be called before it is read.")
    return value


def check_vocabulary(model: Any, student: Any, teacher: Any) -> None:
    """Check that a teacher's model has as many tokens as the student, or raise an `InputError`."""
    if model.config.vocab_size != student.config.vocab_size:
        raise InputError(
            f"Parameter `path` of {type(teacher).__name__} should name a model with the student's "
            f"vocabulary of {student.config.vocab_size} tokens. Found {teacher.path!r} with "
            f"{model.config.vocab_size}."
        )
