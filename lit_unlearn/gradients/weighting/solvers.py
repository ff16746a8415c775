"""Small convex problems over the gradients, solved exactly from their cosines and norms.

The first three are solved by trying every set of objectives that can be active: the solution on a
set comes from linear equations, and the minimum is among the admissible solutions. The method has
no tolerance to choose and does not depend on the objectives' order. It takes 1 to 3 ms for up to 6
objectives and 0.1 s for 12, on one core. Unknowns are parts ``p_i = w_i |g_i|``, so that the
equations contain only cosines, for any norms.

Arguments and results are float64: ``cosine`` ``[M, M]`` of gradients none of which is zero, and
their norms ``lengths`` ``[M]``. More than `MOST_OBJECTIVES` are an `InputError`.
"""

from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import CANCELLED

__all__ = ["bargaining_parts", "cone_parts", "conflict_averse_parts", "min_norm_weights"]

MOST_OBJECTIVES = 12
"""Largest number of objectives of which all sets are tried: 4096 sets."""
_RANK = 1e-10  # smallest eigenvalue of the equations of independent gradients
_NEGLIGIBLE = 1e-12  # share of the parts below which a member counts as absent from its set
_ROUNDING = 1e-14  # of a squared norm, relative to the square of the sum of its parts
_TIE = 1e-9  # relative difference below which parts count as equally small
_DAMPING = 1e-8  # added to the diagonal of the cosines: bounds the weights of opposite gradients
_STEPS = 100  # of Newton; 5 to 40 are usual


def min_norm_weights(cosine: Tensor, lengths: Tensor) -> Tensor:
    """Return the weights ``w >= 0`` with sum 1 that make ``sum_i w_i g_i`` shortest.

    For each set S of gradients the stationary point on the affine hull of S solves the linear
    equations ``G_SS w_S = t 1``, ``1' w_S = 1``. The minimum over the simplex is among those points
    that lie inside it. If the minimiser is not unique, it is the extreme one with the smallest
    parts ``sum_i w_i |g_i|``, or the mean of several such, so that the order of the objectives does
    not matter.
    """
    count = len(lengths)
    sets = _sets(count)[1:]
    short = lengths.min() / lengths  # in (0, 1]: the constraint's coefficients
    within = short * sets
    largest = within.amax(1, keepdim=True)
    equations = torch.zeros(len(sets), count + 1, count + 1, dtype=torch.float64)
    equations[:, :count, :count] = _blocks(cosine, sets)
    equations[:, :count, count] = equations[:, count, :count] = within / largest
    independent = torch.linalg.eigvalsh(equations).abs().amin(1) > _RANK
    right = torch.zeros(int(independent.sum()), count + 1, dtype=torch.float64)
    right[:, count] = 1 / largest[independent, 0]
    parts = torch.linalg.solve(equations[independent], right)[:, :count]
    inside = _positive(parts, sets[independent])
    parts = parts[inside] * sets[independent][inside]
    weights = _shortest(parts, cosine) * short
    return weights / weights.sum()


def cone_parts(cosine: Tensor, starts: Tensor) -> Tensor:
    """Return the vectors nearest to each ``x = sum_i q_i g_i / |g_i|`` without conflict.

    The result is the projection of x onto the dual cone of the gradients: x plus the combination
    ``sum_i y_i g_i / |g_i|`` with ``y >= 0`` that makes the sum shortest. On the set S with ``y_i >
    0`` it is orthogonal to the gradients, ``C_SS y_S = -(C q)_S``. ``starts`` are the parts q of
    each x, at least 0, and the result the parts ``q + y``, both ``[R, M]``. If several give the
    same vector, the smallest is taken, or the mean of several such.
    """
    sets, blocks = _independent_sets(cosine)
    right = -(starts @ cosine)[:, None, :] * sets  # [R, S, M]
    added = torch.linalg.solve(blocks, right.permute(1, 2, 0)).permute(2, 0, 1) * sets
    best = []
    for start, candidates in zip(starts, added, strict=True):
        inside = _positive(candidates, sets, reach=start.sum())
        best.append(_shortest(start + candidates[inside], cosine))
    return torch.stack(best)


def conflict_averse_parts(cosine: Tensor, lengths: Tensor, radius: float) -> Tensor:
    """Return the vector near the mean gradient that improves the worst-served objective most.

    With ``g_0`` the mean of the gradients: maximise ``min_i <g_i, d>`` over ``|d - g_0| <= radius
    |g_0|``, the radius between 0 and 1. The solution is ``d = g_0 + sum_i p_i g_i / |g_i|`` with
    ``p >= 0`` on the worst-served set S. With h_i = 1 / |g_i| and q the parts of g_0: ``C_SS p_S =
    t h_S - (C q)_S``, and t is the larger root of the quadratic equation for the length of the sum.
    The result are the parts ``q + p`` of d, ``[M]``.

    If the gradients are dependent and no vector improves all objectives, the best minimum is 0
    for many d; then d is the nearest to g_0 without conflict.
    """
    start = lengths / len(lengths)
    toward = cosine @ start
    square = start @ toward
    if square <= CANCELLED * start.sum() ** 2:
        return start
    sets, blocks = (every[1:] for every in _independent_sets(cosine))  # without the empty one
    short = lengths.min() / lengths * sets
    largest = short.amax(1, keepdim=True)
    parts, level, real = _worst_served(
        blocks, short / largest, toward * sets, radius * float(square.sqrt())
    )
    inside = real & _positive(parts, sets)
    parts, served = parts[inside], (level / largest)[inside] * (lengths.min() / lengths)
    missed = (served - (start + parts) @ cosine).amax(1)
    optimal = missed <= _TIE * (start.sum() + parts.sum(1))
    if not optimal.any():
        return cone_parts(cosine, start[None])[0]
    return start + _smallest(parts[optimal])


def _worst_served(
    blocks: Tensor, short: Tensor, toward: Tensor, radius: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve ``C p = t h - C q`` with ``p' C p = radius^2`` for p and t, on each set.

    ``blocks`` are the C of each set, ``[S, M, M]``, see `_blocks`; ``short`` h and ``toward`` ``C
    q``, ``[S, M]``, are 0 outside the set.

    Returns:
        p ``[S, M]``; t, the larger of two, ``[S, 1]``; whether they exist, bool ``[S]``.
    """
    rise, shift = torch.linalg.solve(blocks, torch.stack([short, toward], dim=2)).unbind(2)
    a, b = (short * rise).sum(1), (short * shift).sum(1)
    square = b**2 - a * ((toward * shift).sum(1) - radius**2)
    level = ((b + square.clamp(min=0).sqrt()) / a)[:, None]
    return level * rise - shift, level, square >= 0


def bargaining_parts(cosine: Tensor) -> Tensor:
    """Return parts ``p > 0``, ``[M]``, with ``(C p)_i = 1 / p_i``, Nash's bargaining solution.

    They minimise ``p' C p / 2 - sum_i log p_i``, a convex function with one minimum, by Newton's
    method with damped steps. With 1e-8 on the diagonal of C the minimum exists even if the
    gradients can cancel; there p grows to 1e4 and the update is near zero.
    """
    damped = cosine + _DAMPING * torch.eye(len(cosine), dtype=torch.float64)
    parts = (len(cosine) / damped.sum()).sqrt() * torch.ones(len(cosine), dtype=torch.float64)
    for _ in range(_STEPS):
        # in units of p the Hessian is P C P + 1, the gradient P C p - 1
        scaled = parts[:, None] * damped * parts[None, :]
        slope = scaled.sum(1) - 1
        step = torch.linalg.solve(scaled + torch.eye(len(parts), dtype=torch.float64), slope)
        decrement = float((slope @ step).clamp(min=0).sqrt())
        parts = parts * (1 - step / (1 + decrement))
        if decrement < 1e-7:  # the step squares it: what is left is rounding
            break
    return parts


@lru_cache(maxsize=MOST_OBJECTIVES)
def _sets(count: int) -> Tensor:
    """Return ``[2^M, M]``, float64: the sets of objectives, 1 for a member; the empty one first."""
    if count > MOST_OBJECTIVES:
        raise InputError(
            f"Parameter `weighting` should get at most {MOST_OBJECTIVES} objectives with a "
            f"gradient, since it tries every set of them. Found {count}. Join objectives (one "
            "objective takes several sources) or use PCGrad or Fixed."
        )
    return torch.tensor(list(product((0.0, 1.0), repeat=count)), dtype=torch.float64)


def _independent_sets(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sets of independent gradients, the empty one first, and the `_blocks` of each."""
    sets = _sets(len(cosine))
    blocks = _blocks(cosine, sets)
    independent = torch.linalg.eigvalsh(blocks).amin(1) > _RANK
    return sets[independent], blocks[independent]


def _blocks(cosine: Tensor, sets: Tensor) -> Tensor:
    """Return ``[S, M, M]``: cosines within each set, and ones on the diagonal outside it."""
    return cosine * sets[:, :, None] * sets[:, None, :] + torch.diag_embed(1 - sets)


def _positive(parts: Tensor, sets: Tensor, reach: Tensor | float = 0.0) -> Tensor:
    """Return ``[S]``: whether the part of every member is above the negligible share."""
    least = _NEGLIGIBLE * (parts.abs().sum(1, keepdim=True) + reach)
    return ((parts > least) | (sets == 0)).all(1)


def _shortest(parts: Tensor, cosine: Tensor) -> Tensor:
    """Return the candidate ``p`` of ``[S, M]`` with the shortest ``sum_i p_i g_i / |g_i|``.

    A length is known only up to the rounding of its parts. The upper bound of each length is
    compared; of the candidates that may be as short as the best, the smallest parts win.
    """
    sizes = parts.sum(1)
    squares = ((parts @ cosine) * parts).sum(1).clamp(min=0)
    return _smallest(parts[squares <= (squares + _ROUNDING * sizes**2).min()])


def _smallest(parts: Tensor) -> Tensor:
    """Return the candidate of ``[S, M]`` with the smallest sum, or the mean of several such."""
    sizes = parts.sum(1)
    return parts[sizes <= sizes.min() * (1 + _TIE)].mean(0)
