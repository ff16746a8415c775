"""What the measures of two samples share: checks, and labels exchanged at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_unlearn.errors import InputError


def checked(first: Tensor, second: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both samples in float64 on the CPU.

    Args:
        first: ``[n, d]``.
        second: ``[m, d]``.
        least: Fewest rows of each.

    Raises:
        InputError: Shapes that do not fit, too few rows, or a number that is not finite.
    """
    shapes = tuple(first.shape), tuple(second.shape)
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1]:
        raise InputError(
            "Parameters `first` and `second` should be [n, d] and [m, d], one vector per row. "
            f"Found {list(shapes[0])} and {list(shapes[1])}."
        )
    if min(len(first), len(second)) < least:
        raise InputError(
            f"Parameters `first` and `second` should have at least {least} rows each. Found "
            f"{len(first)} and {len(second)}; give more rows of both domains."
        )
    wide = first.detach().cpu().double(), second.detach().cpu().double()
    if not all(bool(sample.isfinite().all()) for sample in wide):
        raise InputError(
            "Parameters `first` and `second` should hold finite numbers. Found NaN or infinity; "
            "load the model in float32 or bfloat16."
        )
    return wide


def exchanged(count: int, chosen: int, permutations: int, seed: int) -> Tensor:
    """``[P, N]`` float64: in each row ``chosen`` ones at random places, zeros elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(permutations, count, generator=generator).argsort(dim=1)
    return (order < chosen).double()


def p_value(observed: float, permuted: Sequence[float]) -> float:
    """``(1 + those at least as large) / (1 + permutations)`` (Phipson and Smyth 2010)."""
    tolerance = 1e-12 * max(1.0, abs(observed))
    return (1 + sum(value >= observed - tolerance for value in permuted)) / (1 + len(permuted))
