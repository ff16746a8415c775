"""What an objective reads of student and teacher: it is asked, with readers that only take notes.

The readers answer with random logits over a small vocabulary, so that every objective, also one of
the user's own, tells its forward passes, and how many tables of logits it holds at once. Where an
objective reads more in some cases than in others (a teacher that complies after a prefill), random
logits make it the dearer case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_unlearn.models.hidden import Change
from lit_unlearn.objectives import Objective
from lit_unlearn.types import TokenBatch, Tokens

_VOCABULARY = 61
_WIDTH = 7
"""Odd sizes, which nothing else has, so that tables of logits are known by their last one."""


@dataclass(frozen=True)
class Read:
    """One forward pass."""

    who: Literal["student", "teacher"]
    rows: int
    """B, candidates counted one by one."""
    length: int
    """T, of the longest row."""
    tokens: int
    """n, of all rows; without padding where rows can be packed."""
    squares: int
    """Sum over the rows of their squared lengths."""
    predictions: int
    """N, positions at which logits are taken."""
    gradient: bool
    """Whether a backward pass follows."""


@dataclass(frozen=True)
class Work:
    """What one micro batch of an objective asks for."""

    reads: tuple[Read, ...]
    logit_rows: int
    """Most rows of logits, ``[V]`` float32 each, that are held at once: the student's, the
    teacher's, and what the loss makes of them forward and backward."""
    repeats: int = 1
    """How often all of it is done: twice with sharpness-aware gradients."""
    asked: int = 0
    """Positions at which a teacher with a cache would be asked."""


def observe(objective: Objective, batch: TokenBatch) -> Work:
    """Let an objective read a micro batch, forward and backward.

    Args:
        objective: Any objective.
        batch: On the CPU.
    """
    small = _with_small_vocabulary(batch)
    notes: list[Read] = []
    held = _Held()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        with held:
            terms = objective(small, _Reader("student", notes), _Reader("teacher", notes))
            terms.values.sum().backward()
    return Work(
        reads=tuple(notes),
        logit_rows=-(-held.most // (4 * _VOCABULARY)),
        repeats=2 if objective.perturbation else 1,
        asked=sum(len(tokens.rows) for tokens in objective.asks(batch)),
    )


def _with_small_vocabulary(batch: TokenBatch) -> TokenBatch:
    def small(tokens: Tokens) -> Tokens:
        return replace(tokens, input_ids=tokens.input_ids % _VOCABULARY)

    return replace(
        batch,
        student=small(batch.student),
        teacher=small(batch.teacher),
        target_ids=None if batch.target_ids is None else batch.target_ids % _VOCABULARY,
        unprefilled=None if batch.unprefilled is None else small(batch.unprefilled),
    )


class _Reader:
    """Reads nothing, and writes down what it was asked."""

    def __init__(self, who: Literal["student", "teacher"], notes: list[Read]) -> None:
        self.who: Literal["student", "teacher"] = who
        self.notes = notes

    def logits(self, tokens: Tokens) -> Tensor:
        self._note(tokens, packed=True)
        return self._random(len(tokens.rows), _VOCABULARY)

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        self._note(tokens)
        return self._random(1 if depths is None else len(depths), len(tokens.rows), _WIDTH)

    def steered_logits(self, tokens: Tokens, depth: float, change: Change) -> Tensor:
        self._note(tokens)
        states = change(self._random(*tokens.input_ids.shape, _WIDTH))
        shift = states[tokens.rows, tokens.columns].sum(-1, keepdim=True)
        return self._random(len(tokens.rows), _VOCABULARY) + shift

    def _note(self, tokens: Tokens, *, packed: bool = False) -> None:
        rows, length = tokens.input_ids.shape
        lengths = tokens.attention_mask.sum(1).tolist() if packed else [length] * rows
        squares = sum(each**2 for each in lengths)
        self.notes.append(
            Read(
                self.who,
                rows,
                length,
                sum(lengths),
                squares,
                len(tokens.rows),
                self._learns(),
            )
        )

    def _learns(self) -> bool:
        return self.who == "student" and torch.is_grad_enabled()

    def _random(self, *shape: int) -> Tensor:
        # no leaf: like a model's output it is freed once nothing needs it
        return torch.randn(shape) + torch.zeros(1, requires_grad=self._learns())


class _Held(TorchDispatchMode):
    """Adds up the bytes of all living tensors with the small vocabulary as last size."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.living: dict[int, int] = {}
        self.references: dict[int, Any] = {}
        self.most = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, Tensor) and tensor.dim() > 0 and tensor.shape[-1] == _VOCABULARY:
                self._hold(tensor)
        return found

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.living:
            return
        self.living[key] = storage.nbytes()
        self.references[key] = ref(storage, lambda _: self.living.pop(key, None))
        self.most = max(self.most, sum(self.living.values()))
