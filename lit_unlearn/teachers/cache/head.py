"""A model's output head without the rest of the model, on computed or cached inputs."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from lit_unlearn.distributed.ranks import base_model, is_sharded
from lit_unlearn.distributed.sharding import whole_tensors
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import (
    StoredTrunk,
    head_inputs_at,
    inputs_above,
    same_up_to_rounding,
)
from lit_unlearn.teachers.cache.rows import row_key, sequences
from lit_unlearn.teachers.cache.store import Shards
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.types import Tokens
from lit_unlearn.utils.library_internals import copied_module, plain_module

__all__ = ["CachedReader", "Head", "head_inputs", "unsuitable"]


def head_inputs(teacher: Teacher, tokens: Tokens, trunk: StoredTrunk | None = None) -> Tensor:
    """Return the inputs ``[N, D]`` of the teacher's output head, without gradient.

    The tokens may be on any device. Passes start above the trunk of the teacher's model, if given.
    """
    model = teacher.model()
    tokens = tokens.to(next(model.parameters()).device)
    with torch.no_grad(), teacher.speaking(), inputs_above(model, tokens, trunk) as inputs:
        return head_inputs_at(model, inputs)


class Head:
    """The output head of a model without the model's body; it shares its weights with the model.

    It runs the model's forward, so that logit scaling and soft caps are included. The head of a
    sharded model is copied into every process; all processes must create one.

    Raises:
        InputError: The model has no body under its `base_model_prefix`.
    """

    def __init__(self, model: nn.Module) -> None:
        whole: Any = base_model(model)
        children = dict(whole.named_children())
        body = getattr(whole, "base_model_prefix", "")
        if body not in children:
            raise unsuitable(whole)
        self._body = _StoredStates()
        exchanged: dict[str, nn.Module] = {body: self._body}
        if is_sharded(whole):
            exchanged |= {n: whole_tensors(part) for n, part in children.items() if n != body}
            whole = plain_module(whole)
        self.module: Any = copied_module(whole, exchanged)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``[N, V]`` float32 logits of `head_inputs` (``[N, D]``, on any device)."""
        device = next(self.module.parameters()).device
        self._body.hidden = hidden.to(device)[None]
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=device)
        logits: Tensor = self.module(input_ids=ids, use_cache=False).logits
        self._body.hidden = None
        return logits[0].float()

    def agrees(self, hidden: Tensor, logits: Tensor) -> bool:
        """Return whether the head turns these inputs into these logits, up to rounding."""
        try:
            found = self.logits(hidden)
        except Exception:  # unknown architectures raise errors of every kind
            return False
        return same_up_to_rounding(found, logits)


class _StoredStates(nn.Module):
    """Replacement of a model's body that returns stored hidden states."""

    hidden: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self.hidden)


class CachedReader:
    """Reader that computes a model's logits from hidden states in shards and the output head."""

    def __init__(self, shards: Shards, head: Head) -> None:
        self.shards, self.head = shards, head

    def logits(self, tokens: Tokens) -> Tensor:
        """Return ``[N, V]`` float32 logits at the positions of ``tokens``, without gradient."""
        return self.head.logits(self._hidden(tokens))

    def _hidden(self, tokens: Tokens) -> Tensor:
        """Return ``[N, D]`` hidden states, in the order of ``tokens.rows``."""
        keys = [row_key(ids) for ids in sequences(tokens)]
        parts: list[Tensor] = []
        starts: dict[int, int] = {}
        lines: list[int] = []
        total = 0
        for row, column in zip(tokens.rows.tolist(), tokens.columns.tolist(), strict=True):
            stored = self.shards.entries.get(keys[row])
            if stored is None or not stored.first <= column <= stored.last:
                raise self._missing(int(tokens.attention_mask[row].sum()), column)
            if row not in starts:
                parts.append(self.shards.read(keys[row]))
                starts[row] = total - stored.first
                total += stored.count
            lines.append(starts[row] + column)
        return torch.cat(parts)[torch.tensor(lines)]

    def _missing(self, length: int, column: int) -> InputError:
        return InputError(
            f"Teacher cache {self.shards.folder}: objectives should read only rows that "
            f"`Objective.teacher_inputs` returned when training started. Found position {column} "
            f"of a row of {length} tokens, which is not stored. Set "
            "`model.teacher.init_args.cache` to false."
        )


def unsuitable(model: nn.Module) -> InputError:
    """Return the error for a model whose head cannot be used alone."""
    return InputError(
        f"Parameter `model.teacher.init_args.cache` should be false for a {type(model).__name__}: "
        "its output head cannot be used without the rest of the model."
    )
