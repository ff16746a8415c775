"""Comparison of a written model folder, read back from its files, with the trained model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import device_of
from lit_unlearn.models.dtypes import multiplies_bfloat16
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.types import Tokens
from lit_unlearn.utils.attention import Attention

__all__ = ["Comparison", "compare_folder", "reference_logits"]

TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest accepted difference of logits, relative to the largest logit, by the coarsest dtype."""
_TENSOR_FLOAT = 1e-2
"""The same for float32 products that an accelerator rounds (TF32)."""
_TOKENS, _POSITIONS = 96, 32
"""Tokens read per row, and positions compared per row."""


@dataclass(frozen=True)
class Comparison:
    """Difference between the logits of a written folder and those of the trained model."""

    rows: int
    positions: int
    difference: float
    """Largest difference of two logits."""
    tolerance: float
    """Largest difference that rounding explains."""
    dtype: str
    """Coarsest dtype of weights and products, which the tolerance follows."""

    @property
    def same(self) -> bool:
        """Whether the folder holds the trained model."""
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"largest difference of logits {self.difference:.2g}, tolerance {self.tolerance:.2g} "
            f"({self.dtype}), {self.rows} rows, {self.positions} positions"
        )


def reference_logits(model: nn.Module, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return ``[N, V]`` logits on the CPU for each row; all processes of a sharded model must call.

    The ``N`` positions are evenly spread over the beginning of a row.
    """
    reader, place = FrozenReader(model), device_of(model)
    return [reader.logits(_tokens(ids[:_TOKENS]).to(place)).float().cpu() for ids in rows]


def _tokens(ids: Sequence[int]) -> Tokens:
    columns = torch.linspace(0, len(ids) - 1, min(_POSITIONS, len(ids))).long()
    row = torch.tensor([list(ids)])
    return Tokens(row, torch.ones_like(row), torch.zeros_like(columns), columns)


def compare_folder(
    folder: Path,
    rows: Sequence[Sequence[int]],
    expected: Sequence[Tensor],
    trained: nn.Module,
    attention: Attention,
    *dtypes: torch.dtype,
) -> Comparison:
    """Load a folder as users do, and compare its logits with those of the trained model.

    The folder is loaded onto the trained model's device if there is room. ``expected`` are the
    trained model's `reference_logits`; ``dtypes`` are further ones in which weights were written
    or gathered.
    """
    of_model = {p.dtype for p in trained.parameters()}
    coarsest = max([*of_model, *dtypes], key=lambda dtype: TOLERANCES.get(dtype, 0.0))
    place = _place(folder, device_of(trained))
    emulated = coarsest == torch.bfloat16 and not multiplies_bfloat16(place)
    source = ModelSource(str(folder), attention=attention)
    model: Any = load_base(source, torch.float32 if emulated else coarsest)
    found = reference_logits(model.to(place), rows)
    relative, name = TOLERANCES.get(coarsest, 0.0), str(coarsest).removeprefix("torch.")
    if coarsest == torch.float32 and _rounds_products(device_of(trained)):
        relative, name = _TENSOR_FLOAT, "TF32"
    largest = max((float(logits.nan_to_num(0, 0, 0).abs().max()) for logits in expected), default=0)
    differences = (_difference(f, e) for f, e in zip(found, expected, strict=True))
    return Comparison(
        rows=len(rows),
        positions=sum(len(logits) for logits in expected),
        difference=max(differences, default=0.0),
        tolerance=relative * max(1.0, largest),
        dtype=name,
    )


def _difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; equal infinities and two NaN do not differ."""
    if one.shape != other.shape:
        return float("inf")
    same = (one == other) | (one.isnan() & other.isnan())
    return float(torch.where(same, 0.0, (one - other).abs()).nan_to_num(float("inf")).max())


def _place(folder: Path, wanted: torch.device) -> torch.device:
    """Return the trained model's device if a second model has room there, else the CPU."""
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if wanted.type == "cuda" and torch.cuda.mem_get_info(wanted)[0] > 1.2 * size + 2**30:
        return wanted
    return torch.device("cpu")


def _rounds_products(device: torch.device) -> bool:
    return device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
