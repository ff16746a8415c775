"""Copies of a model for attacks on its weights.

An attack changes a copy, so that the model keeps its weights bit by bit, even if the attack fails.
What the attack leaves alone is shared: a copy of which only upper blocks are trained needs memory
for these alone.
"""

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import output_head
from lit_unlearn.models.trunk import trunk_outputs

__all__ = ["HeldTrunk", "linear_copy", "sharing_copy", "upper_parameters", "weight_by_output"]


def sharing_copy(model: nn.Module, changed: Iterable[nn.Parameter]) -> nn.Module:
    """Return a copy that shares the storage of all parameters except those that will be changed."""
    own = {id(parameter) for parameter in changed}
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in model.parameters()
        if id(parameter) not in own and type(parameter) is nn.Parameter
    }
    return copy.deepcopy(model, memo)


def upper_parameters(model: nn.Module, count: int) -> list[nn.Parameter]:
    """Return the parameters of the last ``count`` decoder blocks and of all that follows them.

    A head that is tied to the embedding is not among them.

    Raises:
        InputError: The model has fewer blocks, or no list of blocks.
    """
    blocks = decoder_blocks(model)
    if count > len(blocks):
        raise InputError(
            f"Parameter `upper_blocks` should be at most {len(blocks)}, the decoder blocks of the "
            f"model. Found {count}; lower it, or set null for all weights."
        )
    inside = {id(p) for block in blocks[len(blocks) - count :] for p in block.parameters()}
    every = [*model.parameters()]  # in the order in which modules are made
    first = next(index for index, parameter in enumerate(every) if id(parameter) in inside)
    return every[first:]


def linear_copy(model: nn.Module, *, embeddings: bool = False) -> tuple[nn.Module, list[nn.Module]]:
    """Return a copy of which the linear layers may be changed, and these layers.

    With `embeddings`, token embeddings and the output head are among them. Adapters of peft are
    merged first, as in deployment.

    Raises:
        InputError: The model has no linear layers.
    """
    if hasattr(model, "merge_and_unload"):  # adds to weights in place, so nothing is shared
        changed: nn.Module = copy.deepcopy(model).merge_and_unload()  # type: ignore[operator]
    else:
        weights: list[Any] = [layer.weight for layer in _linear_layers(model, embeddings)]
        changed = sharing_copy(model, weights)
    return changed, _linear_layers(changed, embeddings)


def _linear_layers(model: nn.Module, embeddings: bool) -> list[nn.Module]:
    """Return the linear layers of a model, each weight once."""
    kinds = (nn.Linear, Conv1D, nn.Embedding) if embeddings else (nn.Linear, Conv1D)
    head = output_head(model)
    layers: dict[int, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, kinds) and (embeddings or module is not head):
            layers.setdefault(id(module.weight), module)
    if not layers:
        raise InputError(
            "Parameter `model` should have linear layers to change. Found none in a "
            f"{type(model).__name__}; give a causal language model."
        )
    return [*layers.values()]


def weight_by_output(layer: Any) -> Tensor:
    """Return the weight ``[R, C]`` of a linear layer with a row per output; it shares storage."""
    weight: Tensor = layer.weight.detach()
    return weight.T if isinstance(layer, Conv1D) else weight


class HeldTrunk:
    """Outputs of a model's trunk in memory, each computed when it is first asked for.

    It is a `StoredTrunk`: ``[T, D]`` for each sequence, 4 D bytes a token in float32.

    Args:
        model: The model, of which the blocks below `height` do not change.
        height: Number of the trunk's blocks.
        known: Outputs by sequence; models with the same trunk may share it.
    """

    def __init__(self, model: nn.Module, height: int, known: dict[tuple[int, ...], Tensor]) -> None:
        self.height = height
        self._model, self._known = model, known

    def belongs_to(self, model: nn.Module) -> bool:
        """Return whether a model is the one whose trunk this is."""
        return model is self._model

    def holds(self, row: Iterable[int]) -> bool:
        """Return True: what is missing is computed."""
        return True

    def states(self, rows: Iterable[Iterable[int]]) -> list[Tensor]:
        """Return the trunk's outputs ``[T, D]`` for each sequence."""
        keys = [tuple(row) for row in rows]
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        if missing:
            lengths = [len(key) for key in missing]
            read = tokens(missing, lengths, [1] * len(missing), pad_id=0)
            read = read.to(next(self._model.parameters()).device)
            outputs = trunk_outputs(self._model, self.height, read)
            self._known.update(zip(missing, outputs, strict=True))
        return [self._known[key] for key in keys]
