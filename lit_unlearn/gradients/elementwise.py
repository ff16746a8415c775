"""Rules that combine gradients element by element, which no weight per objective can express."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.gradients.collect import Gradient


@torch.no_grad()
def sign_agreement(
    forget: Gradient, retain: Gradient, agreed: Literal["forget", "sum"] = "forget"
) -> Gradient:
    """SAGO: the retain gradient where signs differ, the forget gradient where they agree.

    Xiao et al. 2026, "Modeling LLM Unlearning as an Asymmetric Two-Task Learning Problem",
    arXiv:2604.14808. Where the product of the two elements is negative, the retain element; else,
    also where one is zero, the forget element alone. Both carry their objectives' weights (gamma
    and alpha in the paper's code). The update has a non-negative inner product with the retain
    gradient: every element has its sign, or is 0 in one of the two.

    Works on shards (DTensor) as on whole tensors, and costs one pass over both gradients.

    Args:
        forget: One tensor per trainable parameter; None is zero everywhere. Left as it is.
        retain: The same parameters. Left as it is.
        agreed: What is taken where the signs agree: `forget` alone (SAGO), or the `sum` of both
            (the variant that the authors' code calls "prefer retain").

    Returns:
        A new gradient; None where both are None.

    Raises:
        ValueError: The gradients differ in length.
    """
    if len(forget) != len(retain):
        raise ValueError(
            f"Parameter `retain` should have {len(forget)} entries. Found {len(retain)}. Take both "
            "gradients with one and the same list of trainable parameters."
        )
    return [_agreement(f, r, agreed) for f, r in zip(forget, retain, strict=True)]


def _agreement(forget: Tensor | None, retain: Tensor | None, agreed: str) -> Tensor | None:
    """The rule for one parameter; a None counts as zeros."""
    present = retain if forget is None else forget
    if present is None:
        return None
    f = torch.zeros_like(present) if forget is None else forget
    r = torch.zeros_like(present) if retain is None else retain
    return torch.where(f.sign() * r.sign() < 0, r, f if agreed == "forget" else f + r)
