"""Teacher: the interface of models that give target logits.

A teacher is a plain object, not an `nn.Module`, so that a module that holds it does not register
its weights: they stay out of checkpoints and optimizers. The context that a teacher reads before a
question is part of its token ids; see `lit_unlearn.data.contexts`.
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
    """A source of target logits. Call `attach` first."""

    @abstractmethod
    def attach(self, student: nn.Module, source: ModelSource) -> None:
        """Load the teacher's models, or take them from the student, which has its start weights."""

    @abstractmethod
    def model(self) -> nn.Module:
        """Return the model that generates the teacher's answers."""

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

        No other rows are requested later. ``trunk`` has stored outputs of the student's trunk.
        """
        return

    def identity(self) -> str:
        """Return a text that identifies the teacher's start weights, given those of the student."""
        return type(self).__name__

    def saved_module(self) -> nn.Module | None:
        """Return the weights that checkpoints must hold because they cannot be loaded again."""
        return None

    def unsaved_module(self) -> nn.Module | None:
        """Return weights that follow the student's device and dtype but are not saved."""
        return None

    def after_step(self, student: nn.Module) -> None:
        """Update the teacher from the student; called after each optimizer step."""
        return

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """Return the teacher itself: copies of a training module share it."""
        return self


def attached(value: T | None, teacher: Teacher) -> T:
    """Return a value that `Teacher.attach` sets; raise a `RuntimeError` before that."""
    if value is None:
        raise RuntimeError(f"{type(teacher).__name__}.attach should be called first.")
    return value


def check_vocabulary(model: Any, student: Any, teacher: Any) -> None:
    """Check that a teacher's model has as many tokens as the student, or raise an `InputError`."""
    if model.config.vocab_size != student.config.vocab_size:
        raise InputError(
            f"Parameter `path` of {type(teacher).__name__} should name a model with the student's "
            f"vocabulary of {student.config.vocab_size} tokens. Found {teacher.path!r} with "
            f"{model.config.vocab_size}."
        )
