"""Forward passes of an objective, counted by running it on random logits.

In place of student and teacher, an objective gets readers that record its requests and return
random logits over a small vocabulary. This works for every objective, including the user's, and
shows its forward passes and how many logits exist at once. If an objective reads more in some
cases (a teacher that complies after a prefill), random logits lead to the more expensive case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor

from lit_unlearn.models.hidden import Change
from lit_unlearn.models.packing import rows_read
from lit_unlearn.models.prefix_tree import prefix_tree
from lit_unlearn.models.tree_attention import layout_of
from lit_unlearn.objectives import Objective
from lit_unlearn.planning.traffic import Traffic
from lit_unlearn.types import TokenBatch, Tokens
from lit_unlearn.utils.library_internals import storage_key

__all__ = ["ForwardPass", "MicroBatch", "Steps", "observe", "packed_pass"]

_VOCABULARY = 61
_WIDTH = 7
"""Unusual sizes, so that the last dimension of a tensor identifies logits."""


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass of the student or of the teacher."""

    model: Literal["student", "teacher"]
    rows: int
    """B in the formulas; each candidate counts."""
    length: int
    """T in the formulas: tokens of the longest row."""
    tokens: int
    """n in the formulas: tokens of all rows; for packed rows, those of their prefix tree."""
    squares: int
    """Sum of squared row lengths; for a segment of a prefix tree, its tokens times the row up to
    its end."""
    predictions: int
    """N in the formulas: positions with logits."""
    gradient: bool
    """Whether a backward pass follows."""
    packed: bool = False
    """Whether rows can share beginnings and start above a stored trunk."""
    queries: int = 0
    """Query positions in all calls of attention, padding included; 0 means ``tokens``."""
    keys: int = 0
    """The same for keys and values."""


@dataclass(frozen=True)
class MicroBatch:
    """The work of an objective on one micro batch."""

    passes: tuple[ForwardPass, ...]
    logit_rows: int
    """Largest number of rows of logits, ``[V]`` float32 each, that exist at once: the student's,
    the teacher's, and what the loss computes from them forward and backward."""
    repeats: int = 1
    """Number of repetitions of all passes; 2 with sharpness-aware gradients."""
    cache_positions: int = 0
    """Positions that a teacher cache would store."""
    moved_rows: int = 0
    """Rows of logits that the loss and its backward pass read and write."""


Steps = Sequence[Mapping[str, Sequence[MicroBatch]]]
"""Micro batches of each step, by objective, on the device with the most rows."""


def packed_pass(rows: Sequence[Sequence[int]], predictions: int) -> ForwardPass:
    """Return the teacher's pass over rows that share their beginnings.

    Args:
        rows: Token ids of each row, none empty.
        predictions: Positions with logits.
    """
    tree = prefix_tree(rows)
    squares = sum(len(s.ids) * (s.first + len(s.ids)) for s in tree.segments)
    size = (len(rows), max(map(len, rows)), tree.tokens, squares, predictions)
    groups = layout_of(tree, torch.device("cpu")).groups
    queries, keys = sum(g.queries.numel() for g in groups), sum(g.keys.numel() for g in groups)
    return ForwardPass("teacher", *size, gradient=False, packed=True, queries=queries, keys=keys)


def observe(objective: Objective, batch: TokenBatch) -> MicroBatch:
    """Return the forward passes of an objective on a micro batch, forward and backward.

    Args:
        objective: Any objective.
        batch: On the CPU.
    """
    small = _with_small_vocabulary(batch)
    passes: list[ForwardPass] = []
    held = _LivingLogits()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        with held:
            terms = objective(small, _Reader("student", passes), _Reader("teacher", passes))
            terms.values.sum().backward()
    return MicroBatch(
        passes=tuple(passes),
        logit_rows=-(-held.most // (4 * _VOCABULARY)),
        repeats=2 if objective.perturbation else 1,
        cache_positions=sum(len(tokens.rows) for tokens in objective.teacher_inputs(batch)),
        moved_rows=held.elements // _VOCABULARY,
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
    """A model that records its forward passes and returns random numbers."""

    def __init__(self, model: Literal["student", "teacher"], passes: list[ForwardPass]) -> None:
        self.model: Literal["student", "teacher"] = model
        self.passes = passes

    def logits(self, tokens: Tokens) -> Tensor:
        self._record(tokens, packed=True)
        return self._random(len(tokens.rows), _VOCABULARY)

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        self._record(tokens)
        return self._random(1 if depths is None else len(depths), len(tokens.rows), _WIDTH)

    def steered_logits(self, tokens: Tokens, depth: float, change: Change) -> Tensor:
        self._record(tokens)
        states = change(self._random(*tokens.input_ids.shape, _WIDTH))
        shift = states[tokens.rows, tokens.columns].sum(-1, keepdim=True)
        return self._random(len(tokens.rows), _VOCABULARY) + shift

    def _record(self, tokens: Tokens, *, packed: bool = False) -> None:
        rows, length = tokens.input_ids.shape
        one = packed_pass(rows_read(tokens), len(tokens.rows))
        if not packed:
            dense = rows * length
            one = replace(one, tokens=dense, squares=dense * length, queries=dense, keys=dense)
            one = replace(one, packed=False)
        one = replace(one, model=self.model, length=length, gradient=self._learns())
        self.passes.append(one)

    def _learns(self) -> bool:
        return self.model == "student" and torch.is_grad_enabled()

    def _random(self, *shape: int) -> Tensor:
        # not a leaf: like a model's output, it is freed once nothing needs it
        return torch.randn(shape) + torch.zeros(1, requires_grad=self._learns())


class _LivingLogits(Traffic):
    """Sum of the bytes of all logits that exist at a time, and its largest value."""

    def __init__(self) -> None:
        super().__init__(_VOCABULARY)
        self.living: dict[int, int] = {}
        self.references: dict[int, Any] = {}
        self.most = 0

    def hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage_key(tensor)
        if key in self.living:
            return
        self.living[key] = storage.nbytes()
        self.references[key] = ref(storage, lambda _: self.living.pop(key, None))
        self.most = max(self.most, sum(self.living.values()))
