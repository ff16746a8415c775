"""A linear sketch of a gradient, for inner products of gradients that are not kept.

Every parameter is cut into pieces of ``m`` elements. All pieces of a layer group are added on one
ring of ``m`` sums, each with a random start, sign, and window of a table of signs:

    sketch[(start[piece] + i) mod m] += sign[piece] * table[window[piece] + i] * gradient[piece, i]

Two elements of one piece never share a sum. Two elements of different pieces share a sum with
probability 1/m, and their products have two independent signs, so that for any two gradients,
heavy-tailed or not, the inner product of their sketches is unbiased. Two pieces share all their
sums with equal signs only if their windows and starts differ by the same amount, with probability
at most 2/R for R windows. Since the signs of pieces are independent,

    variance <= (|x|^2 |y|^2 + <x, y>^2) (1/m + 2/R)                       (see `error_bound`)

(count sketch; Charikar et al. 2002, Lemma 1 for one row of counters). One start per parameter is
not enough: if m is a multiple of a weight's width, as for widths of 2^k, all elements of a
column would share one sum, and the gradients of language models are concentrated in few columns. A
sign drawn for each element would be enough, at a higher cost.

Signs, windows and starts depend only on seed, parameter and position, not on device or sharding; a
sharded gradient (DTensor) has the sketch of the full gradient. They come from a counter-based
generator (Philox); only the table is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.gramian import GroupedGramian, add_over_meshes, layout, slots_of
from lit_unlearn.utils.library_internals import local_extent

__all__ = ["SIZE", "WINDOWS", "error_bound", "sketch", "sketched_gramian"]

SIZE = 1 << 16
"""Sums per layer group."""
WINDOWS = 1 << 20
"""R, the number of positions at which a piece's signs may begin in the table."""
_TABLE = (1 << 64) - 1
"""Number of the generator's stream for the table; other streams have the parameters' numbers."""


def error_bound(size: int = SIZE, cosine: float = 0.0) -> float:
    """Return the largest standard deviation of a sketched inner product, in ``|x| |y|``.

    It is 0.0041 for 2^16 sums and gradients with a cosine of 0.
    """
    return sqrt((1 + cosine**2) * (1 / size + 2 / WINDOWS))


@torch.no_grad()
def sketch(
    gradient: Gradient,
    groups: Mapping[str, Sequence[int]] | None = None,
    *,
    size: int = SIZE,
    seed: int = 0,
) -> Tensor:
    """Return the sketch of one gradient; sketches compare under equal groups, size and seed.

    It is linear: the sketch of ``a x + b y`` is ``a`` times that of x plus ``b`` times that of y.
    With sharded gradients this is a collective call, with one all-reduce per mesh dimension.

    Returns:
        ``[G + 1, size]`` float32, on the gradient's device: one ring per group (see
            `layer_groups`), the last for parameters of no group.
    """
    if size < 1:
        raise ValueError(f"Parameter `size` should be at least 1. Found {size}.")
    slots = slots_of(groups or {}, len(gradient))
    shape = (len(groups or {}) + 1, size)
    sums: dict[DeviceMesh | None, Tensor] = {}
    home = torch.device("cpu")
    for index, (slot, tensor) in enumerate(zip(slots, gradient, strict=True)):
        if tensor is None:
            continue
        mesh, copies = layout([tensor])
        home = tensor.device
        if mesh not in sums:
            sums[mesh] = torch.zeros(shape, device=home)
        for start, run in _runs(tensor):
            _fold(sums[mesh][slot], run / copies if copies > 1 else run, start, seed, index)
    return add_over_meshes(sums, torch.zeros(shape, device=home))


def sketched_gramian(
    sketches: Sequence[Tensor], groups: Mapping[str, Sequence[int]] | None = None
) -> GroupedGramian:
    """Return estimates of the inner products of gradients, from ``M`` sketches ``[G + 1, size]``.

    The whole is the sum over groups; a ring for each group is more exact than one for all.
    """
    stacked = torch.stack(list(sketches), dim=1).double()
    products = (stacked @ stacked.transpose(1, 2)).cpu()
    products = (products + products.transpose(1, 2)) / 2
    return GroupedGramian(products.sum(0), products[:-1], tuple(groups or {}))


def _runs(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield this process's part of a tensor as runs without gaps: first index, elements."""
    if not isinstance(tensor, DTensor):
        yield 0, tensor.reshape(-1)
        return
    shape, offset = local_extent(tensor)
    local = tensor.to_local()
    if not local.numel():
        return
    split = max((d for d in range(len(shape)) if shape[d] != tensor.shape[d]), default=0)
    steps = [int(np.prod(tensor.shape[d + 1 :])) for d in range(len(shape))]
    rows = local.reshape(-1, int(np.prod(shape[split:], dtype=np.int64)))
    base = sum(o * s for o, s in zip(offset, steps, strict=True))
    for row, place in zip(rows, np.ndindex(*shape[:split]), strict=True):
        yield base + sum(p * s for p, s in zip(place, steps, strict=False)), row


def _fold(ring: Tensor, run: Tensor, start: int, seed: int, parameter: int) -> None:
    """Add a run of a parameter's elements to a ring, in place."""
    size, end = len(ring), start + len(run)
    table = _table(seed, size, run.device)
    words = _generator(seed, parameter).random_raw(-(-end // size))
    place = start
    while place < end:
        piece, within = divmod(place, size)
        stop = min(end, place - within + size)
        word = int(words[piece])
        first = (word >> 1) % WINDOWS + within
        signs = table[first : first + stop - place]
        values = run[place - start : stop - start].float()
        _add(ring, values, signs, (word >> 32) % size + within, 2 * (word & 1) - 1)
        place = stop


def _add(ring: Tensor, values: Tensor, signs: Tensor, place: int, sign: int) -> None:
    """Add signed values to a ring from a position on, for at most one turn."""
    place %= len(ring)
    ahead = min(len(values), len(ring) - place)
    ring[place : place + ahead].addcmul_(values[:ahead], signs[:ahead], value=sign)
    ring[: len(values) - ahead].addcmul_(values[ahead:], signs[ahead:], value=sign)


def _generator(seed: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed % (1 << 64), stream], dtype=np.uint64))


@lru_cache(maxsize=4)
def _table(seed: int, size: int, device: torch.device) -> Tensor:
    """Return ``[R + size]`` random signs, float32: 4.5 MB for 2^16 sums."""
    words = _generator(seed, _TABLE).random_raw(-(-(WINDOWS + size) // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[: WINDOWS + size]
    return (torch.from_numpy(bits).float() * 2 - 1).to(device)
