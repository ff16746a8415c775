"""A linear sketch of a gradient: inner products of gradients that are not kept.

Every parameter is cut into pieces of ``m`` elements. Each element gets a random sign, each piece a
random start, and all pieces of a layer group are laid over each other on a ring of ``m`` sums:

    sketch[(start[piece] + i) mod m] += sign[piece, i] * gradient[piece, i]

Two elements of one piece never meet, two of different pieces meet with chance 1/m, so that for any
two gradients, heavy-tailed or not, the inner product of their sketches is unbiased, with

    variance <= (|x|^2 |y|^2 + <x, y>^2) / m                               (see `error_bound`)

(count sketch; Charikar et al. 2002, Lemma 1 for one row of counters). One start per parameter would
not do: where m is a multiple of a weight's width, as it is for widths of 2^k, the elements of one
column would meet again and again, and columns are what gradients of language models are heavy in.

Signs and starts depend on seed, parameter and place alone, not on device or sharding; a sharded
gradient (DTensor) has the sketch of the whole one. They are drawn from a counter-based generator
(Philox), 64 signs per number, so that nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import sqrt

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.gramian import GroupedGramian, layout, slots_of

SIZE = 1 << 16
"""Sums per layer group."""
_BLOCK = 256
"""Signs that one step of the generator's counter gives."""


def error_bound(size: int = SIZE, cosine: float = 0.0) -> float:
    """Largest standard deviation of a sketched inner product, in units of ``|x| |y|``.

    Args:
        size: Sums of the sketch.
        cosine: Of the two gradients. 0.0039 for 2^16 sums and orthogonal gradients.
    """
    return sqrt((1 + cosine**2) / size)


@torch.no_grad()
def sketch(
    gradient: Gradient,
    groups: Mapping[str, Sequence[int]] | None = None,
    *,
    size: int = SIZE,
    seed: int = 0,
) -> Tensor:
    """The sketch of one gradient; those of different gradients need the same groups, size and seed.

    Linear: the sketch of ``a x + b y`` is ``a`` times that of x plus ``b`` times that of y. With
    sharded gradients this is a collective call, with one all-reduce per mesh dimension.

    Args:
        gradient: One tensor per trainable parameter; None is zero everywhere.
        groups: Indices of the parameters of each group, disjoint (see `layer_groups`).
        size: Sums per group.
        seed: Of signs and starts.

    Returns:
        ``[G + 1, size]`` float32, on the gradient's device: one ring per group, the last for
        parameters of no group.

    Raises:
        ValueError: As `gramian`; or a size below 1.
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
    total = torch.zeros(shape, device=home)
    for mesh, part in sums.items():
        for group in [] if mesh is None else mesh.get_all_groups():
            dist.all_reduce(part, group=group)
        total += part.to(home)
    return total


def sketched_gramian(
    sketches: Sequence[Tensor], groups: Mapping[str, Sequence[int]] | None = None
) -> GroupedGramian:
    """Estimates of the inner products of gradients, from their sketches.

    Groups do not share a ring, so that the whole, which is their sum, is the more exact.

    Args:
        sketches: ``M`` sketches, ``[G + 1, size]`` each.
        groups: Those of the sketches.
    """
    stacked = torch.stack(list(sketches), dim=1).double()
    products = (stacked @ stacked.transpose(1, 2)).cpu()
    products = (products + products.transpose(1, 2)) / 2
    return GroupedGramian(products.sum(0), products[:-1], tuple(groups or {}))


# ------------------------------------------------------------------------------------------ parts


def _runs(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """What is here of a tensor, in stretches without gaps: first place in the whole, elements."""
    if not isinstance(tensor, DTensor):
        yield 0, tensor.reshape(-1)
        return
    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
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
    """Add a stretch of a parameter to a ring, in place."""
    size, end = len(ring), start + len(run)
    starts = _starts(seed, parameter, -(-end // size)) % size
    table = _table(run.device)
    bits = torch.from_numpy(_signs(seed, parameter, start, end)).to(run.device)
    first = start - start % 8  # the place of the first bit
    place = start
    while place < end:
        stop = min(end, place - place % size + size)
        low, high = (place - first) // 8, -(-(stop - first) // 8)
        signs = table.index_select(0, bits[low:high].int()).reshape(-1)[(place - first) % 8 :]
        piece = run[place - start : stop - start].float()
        _add(ring, piece, signs[: len(piece)], int(starts[place // size]) + place)
        place = stop


def _add(ring: Tensor, values: Tensor, signs: Tensor, place: int) -> None:
    """Add signed values to a ring from a place on, once around at most."""
    place %= len(ring)
    ahead = min(len(values), len(ring) - place)
    ring[place : place + ahead].addcmul_(values[:ahead], signs[:ahead])
    ring[: len(values) - ahead].addcmul_(values[ahead:], signs[ahead:])


def _signs(seed: int, parameter: int, start: int, end: int) -> NDArray[np.uint8]:
    """Bits of the places from ``start - start % 8`` on, eight to a byte."""
    first = start // _BLOCK
    blocks = -(-end // _BLOCK) - first
    words = _generator(seed, 2 * parameter, first).random_raw(blocks * _BLOCK // 64)
    skipped = (start - first * _BLOCK) // 8
    found: NDArray[np.uint8] = words.astype("<u8").view(np.uint8)[skipped:]
    return found


def _starts(seed: int, parameter: int, pieces: int) -> NDArray[np.uint64]:
    """A random start for each piece."""
    found: NDArray[np.uint64] = _generator(seed, 2 * parameter + 1, 0).random_raw(pieces)
    return found


def _generator(seed: int, stream: int, block: int) -> np.random.Philox:
    key = np.array([seed % (1 << 64), stream], dtype=np.uint64)
    return np.random.Philox(key=key).advance(block)


@lru_cache(maxsize=8)
def _table(device: torch.device) -> Tensor:
    """``[256, 8]``: the eight signs of each byte."""
    bits = torch.arange(256)[:, None] >> torch.arange(8)[None, :]
    return ((bits & 1) * 2 - 1).float().to(device)
