"""The sketch: equal to a loop over elements, linear, within its bound, the same on shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import Placement
from torch.testing import assert_close

from lit_unlearn.gradients.collect import Gradient
from lit_unlearn.gradients.diagnostics import cosines
from lit_unlearn.gradients.gramian import gramian
from lit_unlearn.gradients.sketch import SIZE, error_bound, sketch, sketched_gramian
from tests.processes import FORKED, in_processes

SHAPES = [(7, 5), (301,), (2, 3, 4), (1,), (0, 4)]
GROUPS = {"first": [0, 4], "second": [3, 1]}  # parameter 2 is in no group


def random_gradient(seed: int, dtype: torch.dtype = torch.float32) -> Gradient:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator).to(dtype) for s in SHAPES]


def naive(gradient: Gradient, size: int, seed: int) -> Tensor:
    """Element by element, from the same generator, all parameters on one ring."""

    def words(stream: int, count: int) -> list[int]:
        drawn = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(count)
        return [int(word) for word in drawn]

    table = words(2**64 - 1, 2**14 + 400)
    ring = torch.zeros(size, dtype=torch.float64)
    for index, tensor in enumerate(gradient):
        if tensor is None:
            continue
        pieces = words(index, 400)
        for i, value in enumerate(tensor.flatten().tolist()):
            piece = pieces[i // size]
            at = (piece >> 1) % 2**20 + i % size
            sign = (2 * (piece & 1) - 1) * (2 * (table[at // 64] >> (at % 64) & 1) - 1)
            ring[((piece >> 32) % size + i) % size] += sign * value
    return ring


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_equals_the_loop_over_elements(size: int) -> None:
    gradient = random_gradient(0)
    gradient[2] = None
    found = sketch(gradient, size=size, seed=3)
    assert found.shape == (1, size)
    assert_close(found[0].double(), naive(gradient, size, 3), rtol=1e-5, atol=1e-5)


def test_groups_have_rings_of_their_own() -> None:
    gradient = random_gradient(0)
    found = sketch(gradient, GROUPS, size=50)
    for row, members in zip(found, ([0, 4], [1, 3], [2]), strict=True):
        alone: Gradient = [g if i in members else None for i, g in enumerate(gradient)]
        assert_close(row, sketch(alone, size=50)[0])
    assert_close(found.sum(0), sketch(gradient, size=50)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_linear(dtype: torch.dtype) -> None:
    one, two = random_gradient(0, dtype), random_gradient(1, dtype)
    mixed: Gradient = [2 * a.double() - 3 * b.double() for a, b in zip(one, two, strict=True)]  # type: ignore[union-attr]
    expected = 2 * sketch(one, size=32) - 3 * sketch(two, size=32)
    assert_close(sketch(mixed, size=32), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(sketch([None] * 3, size=32), torch.zeros(1, 32))


def test_strided_gradients_are_read_in_their_own_order() -> None:
    matrix = torch.randn(6, 40)
    assert torch.equal(sketch([matrix.T], size=16), sketch([matrix.T.contiguous()], size=16))


def heavy(kind: str, seed: int) -> list[Gradient]:
    """Two gradients with cosine near 0.3, heavy-tailed as those of language models are."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(16, 512, generator=generator)
    pair = [shared + 1.5 * torch.randn(16, 512, generator=generator) for _ in range(2)]
    if kind == "columns":  # two columns hold nearly everything, and the width divides the size
        scale = torch.full((512,), 0.05)
        scale[[3, 200]] = 10.0
        pair = [g * scale for g in pair]
    elif kind == "elements":
        pair = [g * torch.rand(16, 512, generator=generator).pow(-0.6) for g in pair]
    return [[g] for g in pair]


@pytest.mark.parametrize("kind", ["spread", "columns", "elements"])
def test_unbiased_and_within_the_bound_over_seeds(kind: str) -> None:
    """60 seeds: the mean is off by at most 4 standard errors; 30 % over the bound allowed."""
    size, seeds = 1024, 60
    pair = heavy(kind, 0)
    exact = gramian(pair).whole
    norm = float((exact[0, 0] * exact[1, 1]).sqrt())
    cosine = float(cosines(exact)[0, 1])
    found = torch.stack(
        [sketched_gramian([sketch(g, size=size, seed=s) for g in pair]).whole for s in range(seeds)]
    )
    errors = (found[:, 0, 1] - exact[0, 1]) / norm
    bound = error_bound(size, cosine)
    assert float(errors.std()) < 1.3 * bound
    assert abs(float(errors.mean())) < 4 * bound / seeds**0.5
    lengths = found[:, 0, 0] / exact[0, 0] - 1
    assert float(lengths.std()) < 1.3 * error_bound(size, 1.0)


def test_default_size_gives_cosines_to_one_percent() -> None:
    """Three standard deviations of `error_bound` at 2^16 are 0.012; one group, 1e6 elements."""
    assert SIZE == 65536
    assert error_bound() == pytest.approx(1 / 256, rel=0.07)
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(1000, 1024, generator=generator)
    pair: list[Gradient] = [
        [shared + 2.0 * torch.randn(1000, 1024, generator=generator)] for _ in range(2)
    ]
    exact = cosines(gramian(pair).whole)[0, 1]
    for seed in range(5):
        found = sketched_gramian([sketch(g, seed=seed) for g in pair])
        assert float(cosines(found.whole)[0, 1]) == pytest.approx(float(exact), abs=0.012)


def test_gramian_of_groups_adds_up() -> None:
    found = sketched_gramian(
        [sketch(random_gradient(s), GROUPS, size=4096) for s in (0, 1)], GROUPS
    )
    assert found.groups == ("first", "second")
    assert found.by_group.shape == (2, 2, 2)
    exact = gramian([random_gradient(0), random_gradient(1)], GROUPS)
    assert_close(found.by_group, exact.by_group, rtol=1e-4, atol=1e-3)  # no piece meets another


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"size.*at least 1\. Found 0"):
        sketch(random_gradient(0), size=0)
    with pytest.raises(ValueError, match="index 9 in group 'a'"):
        sketch(random_gradient(0), {"a": [9]})


# --------------------------------------------------------------------------------------- sharded


def sharded_equals_whole() -> None:
    full = random_gradient(0)
    layouts: list[tuple[tuple[int, ...], tuple[Placement, ...], list[int]]] = [
        ((2,), (Shard(0),), [0, 1, 2, 3, 4]),
        ((2,), (Shard(1),), [0, 2]),
        ((2,), (Replicate(),), [0, 1, 2]),
        ((1, 2), (Replicate(), Shard(0)), [0, 1, 2]),
    ]
    for mesh_shape, placements, members in layouts:
        mesh = init_device_mesh("cpu", mesh_shape)
        sharded: Gradient = [
            distribute_tensor(t, mesh, placements) if i in members else None  # type: ignore[arg-type]
            for i, t in enumerate(full)
        ]
        expected: Gradient = [t if i in members else None for i, t in enumerate(full)]
        found = sketch(sharded, GROUPS, size=20)
        assert_close(found, sketch(expected, GROUPS, size=20), rtol=1e-5, atol=1e-5)


@FORKED
def test_sharded_equals_full(tmp_path: Path) -> None:
    in_processes(2, sharded_equals_whole, tmp_path)
