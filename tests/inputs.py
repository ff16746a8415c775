"""Inputs, stated once, for property tests."""

from __future__ import annotations

import torch
from torch import Tensor

# ------------------------------------------------------------------------------------- gradients


def jacobian(count: int, size: int, seed: int, rank: int | None = None) -> Tensor:
    """``[M, P]`` float64 gradients, standard normal, of the given rank."""
    generator = torch.Generator().manual_seed(seed)
    rank = size if rank is None else rank
    mixing = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    return mixing @ torch.randn(rank, size, generator=generator, dtype=torch.float64)


def _product(rows: Tensor) -> Tensor:
    product = rows @ rows.T
    return (product + product.T) / 2


def _jacobians() -> dict[str, Tensor]:
    """Gradients of every kind that training can come across, ``[M, P]`` each."""
    found = {f"random_{m}": jacobian(m, 20, seed=m) for m in (1, 2, 3, 4, 5, 6)}
    found |= {f"rank_1_of_{m}": jacobian(m, 20, seed=m, rank=1) for m in (2, 4)}
    found |= {f"rank_2_of_{m}": jacobian(m, 20, seed=m, rank=2) for m in (3, 5)}
    found["crowded"] = jacobian(9, 4, seed=0)  # more objectives than PCGrad takes in all orders
    common = 2 * jacobian(1, 20, seed=2)
    found["aligned"] = jacobian(4, 20, seed=1) - common
    sides = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    found["conflicting"] = jacobian(4, 20, seed=1) + sides[:, None] * common
    found["orthogonal"] = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    one = jacobian(1, 20, seed=3)
    found["equal"] = one.expand(3, 20)
    found["opposite"] = torch.cat([one, -one])
    found["opposite_unequal"] = torch.cat([one, -3 * one])
    found["opposite_and_third"] = torch.cat([one, -one, jacobian(1, 20, seed=4)])
    found["all_zero"] = torch.zeros(3, 20, dtype=torch.float64)
    found["one_zero"] = torch.cat([jacobian(2, 20, seed=5), torch.zeros_like(one)])
    found["only_one_alive"] = torch.cat([torch.zeros_like(one), one, torch.zeros_like(one)])
    scales = torch.tensor([1e-10, 1.0, 1e10], dtype=torch.float64)
    found["all_tiny"] = 1e-10 * jacobian(4, 20, seed=6)
    found["all_huge"] = 1e10 * jacobian(4, 20, seed=6)
    found["mixed_norms"] = scales[:, None] * jacobian(3, 20, seed=7)
    spread = torch.logspace(-10, 10, 6, dtype=torch.float64)
    found["mixed_norms_rank_2"] = spread[:, None] * jacobian(6, 20, seed=8, rank=2)
    found["lattice"] = torch.tensor(  # the zero vector lies in several hulls, and on their edges
        [[0, 1], [0, -1], [1, 0], [-1, 0], [1, 1], [-1, -1]], dtype=torch.float64
    )
    found["mixed_norms_opposite"] = scales[:, None] * torch.cat([one, -one, one])
    return found


JACOBIANS = _jacobians()
GRAMIANS = {name: _product(rows) for name, rows in JACOBIANS.items()}
"""``[M, M]`` float64, by the name of the situation."""
HARMONIOUS = {name: gramian for name, gramian in GRAMIANS.items() if (gramian >= 0).all()}
"""Those without a conflict."""
