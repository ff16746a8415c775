"""A model's output head alone: what goes into it, and the logits that come out again."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from lit_unlearn.distributed.ranks import base_model, is_sharded
from lit_unlearn.distributed.sharding import whole_tensors, without_sharding
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import arranged, behind_prefix, head_inputs_at
from lit_unlearn.types import Tokens


class Speaker(Protocol):
    """What the cache needs of a teacher; see `lit_unlearn.teachers.teacher.Teacher`."""

    def model(self) -> nn.Module:
        """The teacher's model."""

    def speaking(self) -> Any:
        """Context manager inside which the model speaks as the teacher."""

    def logits(self, tokens: Tokens) -> Tensor:
        """``[N, V]`` float32, read from the model."""


def head_inputs(teacher: Speaker, tokens: Tokens, shared: int = 0) -> Tensor:
    """Return what enters the teacher's output head: ``[N, D]``, without gradient.

    Args:
        teacher: Its model is read.
        tokens: ``B`` sequences and ``N`` positions in them, on any device.
        shared: Number of first tokens that are read once, see `behind_prefix`.
    """
    model = teacher.model()
    tokens = tokens.to(next(model.parameters()).device)
    with torch.no_grad(), teacher.speaking():
        if shared:
            return head_inputs_at(model, behind_prefix(model, tokens, shared))
        return head_inputs_at(model, arranged(model, tokens, pack=False))


_ROUNDING = 0.2
"""Largest root mean square of differences, relative to that of the logits around their mean, that
counts as rounding. In bfloat16 another shape of the batch gave 0.05 on a fine-tuned SmolLM2-135M;
the model that it was fine-tuned from gave 0.7. The largest difference is no measure: among the
entries of a large vocabulary it was nine times the mean one."""


class Head:
    """The output head of a model, without the model's body; it shares its weights with the model.

    Of a sharded model it has whole copies, in every process; all must make one.

    The forward pass is the model's own, so that what follows the head (scaling, soft caps) is done.

    Args:
        model: A causal language model of transformers, possibly with adapters.

    Raises:
        InputError: The model has no body in the place where transformers keeps it.
    """

    def __init__(self, model: nn.Module) -> None:
        whole: Any = base_model(model)
        body = getattr(whole, "base_model_prefix", "")
        if body not in whole._modules:
            raise unsuitable(whole)
        self._body = _NoBody()
        outside = {name: part for name, part in whole._modules.items() if name != body}
        if not is_sharded(whole):
            self.module: Any = copy.copy(whole)
        else:
            self.module = without_sharding(whole)
            outside = {name: whole_tensors(part) for name, part in outside.items()}
        self.module._modules = {**outside, body: self._body}

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """``[N, V]`` float32 logits from `head_inputs` (``[N, D]``, on any device)."""
        device = next(self.module.parameters()).device
        self._body.hidden = hidden.to(device)[None]
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=device)
        logits: Tensor = self.module(input_ids=ids, use_cache=False).logits
        self._body.hidden = None
        return logits[0].float()

    def agrees(self, hidden: Tensor, logits: Tensor) -> bool:
        """Whether the head makes these logits of these inputs, up to rounding."""
        try:
            found = self.logits(hidden)
        except Exception:  # what a strange architecture raises is not known beforehand
            return False
        if found.shape != logits.shape:
            return False
        spread = (logits - logits.mean(-1, keepdim=True)).square().mean()
        return bool((found - logits).square().mean() <= _ROUNDING**2 * spread)


class _NoBody(nn.Module):
    """Stands where a model has its body, and gives its head what was kept."""

    hidden: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self.hidden)


def unsuitable(model: nn.Module) -> InputError:
    """What to say about a model whose head cannot be used alone."""
    return InputError(
        f"Parameter `model.teacher.init_args.cache` should be false for a {type(model).__name__}: "
        "its output head cannot be used without the rest of the model."
    )
