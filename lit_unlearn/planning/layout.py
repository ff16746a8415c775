"""Sizes of a model, counted on the meta device, where tensors have shapes but no content."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.loading import ModelSource, train_only, with_adapters

__all__ = ["ORDER", "Layout", "Matrix", "Role", "layout_of", "student_layout", "teacher_layout"]

Role = Literal["attention_in", "attention_out", "mlp_in", "mlp_out", "head"]

ORDER: dict[Role, int] = {
    "attention_in": 1,
    "attention_out": 2,
    "mlp_in": 3,
    "mlp_out": 4,
    "head": 5,
}
"""Order of the parts in a forward pass through a block; 0 is the first norm."""


@dataclass(frozen=True)
class Matrix:
    """A linear layer."""

    role: Role
    block: int
    """Index of the decoder block; the number of blocks for the output head."""
    inputs: int
    outputs: int
    trained: bool
    rank: int = 0
    """Rank of its adapter; 0 for none."""

    @property
    def keeps_input(self) -> bool:
        """Whether the layer's input is kept for the backward pass."""
        return self.trained or self.rank > 0


@dataclass(frozen=True)
class Layout:
    """The sizes of a model."""

    width: int
    """D in the formulas: width of the hidden states."""
    blocks: int
    """Number of decoder blocks."""
    heads: int
    """Number of attention heads for queries."""
    key_width: int
    """A' in the formulas: width of the keys of all heads."""
    vocabulary: int
    matrices: tuple[Matrix, ...]
    norms_trained: tuple[bool, ...]
    """Whether the norms of each block are trained; the last entry is for the final norm."""
    lowest: int
    """Index of the first block that a gradient reaches; 0 if the embedding is trained."""
    reach: int
    """`ORDER` of the first trained part of that block; -1 if the embedding is trained."""
    embedding_trained: bool
    tied: bool
    """Whether embedding and output head are one parameter."""
    parameters: int
    """Number of parameters; tied ones count once."""
    trained: int
    weight_bytes: int
    trained_bytes: int
    block_bytes: tuple[int, int]
    """Bytes of the largest block: all weights, and the trained ones."""
    outside_bytes: tuple[int, int]
    """Bytes outside of blocks (embedding, head, final norm): all weights, and the trained ones."""
    element_bytes: int
    """Bytes of a frozen or fully trained weight; adapters may be wider."""

    def of_block(self, block: int) -> list[Matrix]:
        """Return the linear layers of a block."""
        return [matrix for matrix in self.matrices if matrix.block == block]

    def is_above(self, matrix: Matrix) -> bool:
        """Return whether a linear layer comes after the first trained part in a forward pass."""
        return (matrix.block, ORDER[matrix.role]) > (self.lowest, self.reach)

    @property
    def head(self) -> Matrix:
        """Output head."""
        return next(matrix for matrix in self.matrices if matrix.role == "head")


def student_layout(source: ModelSource, config: PretrainedConfig, element_bytes: int) -> Layout:
    """Return the layout of the model to train.

    Args:
        source: Adapters and choice of trained parameters.
        config: Shape of the model.
        element_bytes: Bytes of a weight.

    Raises:
        InputError: Adapters or patterns do not fit the model, or its weights are not in linear
            layers.
    """
    model: Any = _empty(config, element_bytes)
    if source.lora is not None:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's, about a name of transformers 4
            model = with_adapters(model, source)
    if source.trainable is not None:
        train_only(model, source.trainable)
    return layout_of(model, config, element_bytes)


def teacher_layout(config: PretrainedConfig, element_bytes: int) -> Layout:
    """Return the layout of a frozen model."""
    model = _empty(config, element_bytes).requires_grad_(False)
    return layout_of(model, config, element_bytes)


def _empty(config: PretrainedConfig, element_bytes: int) -> nn.Module:
    dtype = torch.bfloat16 if element_bytes == 2 else torch.float32
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model


def layout_of(model: Any, config: PretrainedConfig, element_bytes: int) -> Layout:
    """Return the layout of a model, from shapes and ``requires_grad`` of its parameters."""
    text: Any = config.get_text_config()
    parts = decoder_blocks(model)
    blocks = len(parts)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    named = dict(model.named_parameters())
    matrices = (*_matrices(parts), _matrix("head", blocks, getattr(head, "base_layer", head), head))
    block_of = {id(p): number for number, part in enumerate(parts) for p in part.parameters()}
    sizes = [[0, 0] for _ in range(blocks + 1)]
    normed = [False] * (blocks + 1)
    lowest = blocks
    for name, parameter in named.items():
        block = block_of.get(id(parameter), blocks)
        size = parameter.numel() * parameter.element_size()
        sizes[block][0] += size
        if parameter.requires_grad:
            sizes[block][1] += size
            lowest = min(lowest, block)
            normed[block] |= parameter.dim() == 1 and bool(re.search(r"norm|ln_", name))
    embeds = any(p.requires_grad for p in embedding.parameters())
    lowest = 0 if embeds else lowest
    _check_known(named, matrices, sum(p.numel() for p in embedding.parameters()), config)
    return Layout(
        width=int(text.hidden_size),
        blocks=blocks,
        heads=int(text.num_attention_heads),
        key_width=_key_width(text),
        vocabulary=int(text.vocab_size),
        matrices=matrices,
        norms_trained=tuple(normed),
        lowest=lowest,
        reach=-1 if embeds else _reach(matrices, lowest, normed[lowest]),
        embedding_trained=embeds,
        tied=head.weight is embedding.weight,
        parameters=sum(p.numel() for p in named.values()),
        trained=sum(p.numel() for p in named.values() if p.requires_grad),
        weight_bytes=sum(size[0] for size in sizes),
        trained_bytes=sum(size[1] for size in sizes),
        block_bytes=max((size[0], size[1]) for size in sizes[:-1]),
        outside_bytes=(sizes[-1][0], sizes[-1][1]),
        element_bytes=element_bytes,
    )


def _key_width(text: Any) -> int:
    heads = int(text.num_attention_heads)
    each = getattr(text, "head_dim", None) or int(text.hidden_size) // heads
    return int(getattr(text, "num_key_value_heads", None) or heads) * int(each)


def _matrices(blocks: Sequence[nn.Module]) -> Iterator[Matrix]:
    """Yield the linear layers; the last of a block's attention or MLP is its output layer."""
    for number, block in enumerate(blocks):
        parts: dict[str, list[str]] = {}
        for path, module in block.named_modules():
            if _is_linear(module) and ".lora_" not in path:
                part = "attention" if re.search(r"att(n|ention)", path) else "mlp"
                parts.setdefault(part, []).append(path)
        for part, paths in parts.items():
            for path in paths:
                role: Any = f"{part}_{'out' if path == paths[-1] else 'in'}"
                outer = block.get_submodule(path.removesuffix(".base_layer"))
                yield _matrix(role, number, block.get_submodule(path), outer)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _matrix(role: Role, block: int, module: Any, outer: Any) -> Matrix:
    inputs, outputs = module.weight.shape
    if isinstance(module, nn.Linear):
        inputs, outputs = outputs, inputs
    ranks = getattr(outer, "r", None)
    rank = max(ranks.values(), default=0) if isinstance(ranks, dict) else 0
    return Matrix(role, block, inputs, outputs, bool(module.weight.requires_grad), rank)


def _reach(matrices: tuple[Matrix, ...], lowest: int, norm: bool) -> int:
    found = [ORDER[m.role] for m in matrices if m.block == lowest and m.keeps_input]
    return 0 if norm else min(found, default=ORDER["head"])


def _check_known(
    named: dict[str, Any], matrices: tuple[Matrix, ...], embedding: int, config: PretrainedConfig
) -> None:
    """Raise an `InputError` if over 1 % of the weights are outside of layers of a known kind."""
    vectors = sum(p.numel() for p in named.values() if p.dim() == 1)
    adapters = sum(p.numel() for name, p in named.items() if ".lora_" in name)
    known = vectors + adapters + embedding
    known += sum(m.inputs * m.outputs for m in matrices if m.role != "head")
    head = matrices[-1]
    total = sum(p.numel() for p in named.values())
    if total - known > total / 100 + head.inputs * head.outputs:
        raise InputError(
            f"Parameter `model.student.path` should name a dense decoder of linear layers. Found "
            f"{config.model_type}, with {1 - known / total:.0%} of its weights elsewhere; mixtures "
            "of experts cannot be planned yet."
        )
