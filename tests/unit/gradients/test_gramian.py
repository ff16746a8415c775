from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import Placement
from torch.testing import assert_close

from lit_unlearn.gradients import gramian as gramian_file
from lit_unlearn.gradients.collect import Gradient, combine
from lit_unlearn.gradients.gramian import gramian
from tests.processes import FORKED, in_processes

SHAPES = [(7, 5), (13,), (2, 3, 4), (1,), (0, 4)]
GROUPS = {"first": [0, 4], "second": [3, 1]}  # parameter 2 is in no group


def make_gradients(count: int = 4, dtype: torch.dtype = torch.float32) -> list[Gradient]:
    """Gradients with norms from 1e-6 to 1; some None, one all None, one exactly zero."""
    generator = torch.Generator().manual_seed(0)
    gradients: list[Gradient] = []
    for i in range(count):
        scale = 10.0 ** (2 * i - 6)
        gradients.append([(torch.randn(s, generator=generator) * scale).to(dtype) for s in SHAPES])
    gradients[0][1] = None
    gradients[1][1] = gradients[1][2] = None
    gradients.append([None] * len(SHAPES))
    gradients.append([torch.zeros(s, dtype=dtype) for s in SHAPES])
    return gradients


def naive(gradients: list[Gradient], indices: list[int] | None = None) -> Tensor:
    """From each gradient flattened into one float64 vector."""
    rows = []
    for gradient in gradients:
        parts = [
            (torch.zeros(shape) if tensor is None else tensor).double().flatten()
            for i, (tensor, shape) in enumerate(zip(gradient, SHAPES, strict=True))
            if indices is None or i in indices
        ]
        rows.append(torch.cat(parts))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T


@pytest.mark.parametrize("chunk", [3, 1 << 18], ids=["pieces", "whole"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_the_naive_gramian(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gramian_file, "CHUNK", chunk)
    gradients = make_gradients(dtype=dtype)
    found = gramian(gradients, GROUPS)
    assert found.whole.dtype == found.by_group.dtype == torch.float64
    assert found.groups == ("first", "second")
    assert_close(found.whole, naive(gradients), rtol=1e-10, atol=0)
    for matrix, indices in zip(found.by_group, GROUPS.values(), strict=True):
        assert_close(matrix, naive(gradients, indices), rtol=1e-10, atol=0)
    assert torch.equal(found.whole, found.whole.T)


def test_groups_add_up_to_the_whole() -> None:
    gradients = make_gradients()
    found = gramian(gradients, {**GROUPS, "third": [2]})
    assert_close(found.by_group.sum(0), found.whole, rtol=1e-12, atol=0)
    assert_close(gramian(gradients).whole, found.whole, rtol=1e-12, atol=0)
    assert gramian(gradients).by_group.shape == (0, 6, 6)


def test_long_gradients_keep_their_norm() -> None:
    """3e7 ones and minus ones; a running sum in float32 stops growing at 2^24, about 1.7e7."""
    signs = torch.ones(30_000_000)
    signs[1::3] = -1
    found = gramian([[signs], [torch.ones(()).expand(30_000_000)]]).whole
    assert found.tolist() == [[3e7, 1e7], [1e7, 3e7]]


def test_extreme_values_do_not_overflow() -> None:
    """Squares of 1e30 and 1e-30 are outside of float32."""
    found = gramian([[torch.full((4,), 1e30)], [torch.full((4,), 1e-30)]]).whole
    expected = torch.tensor([[4e60, 4.0], [4.0, 4e-60]], dtype=torch.float64)
    assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_non_finite_gradients_stay_in_their_row(value: float) -> None:
    gradients = [[torch.randn(5)] for _ in range(3)]
    expected = gramian(gradients).whole
    gradients[1][0][2] = value
    found = gramian(gradients).whole
    assert not found[1].isfinite().any()
    kept = [0, 2]
    assert_close(found[kept][:, kept], expected[kept][:, kept])


def test_strided_gradients() -> None:
    matrix = torch.randn(6, 4)
    found = gramian([[matrix.T], [matrix[:, :].T.clone()]]).whole
    assert_close(found, torch.full((2, 2), float((matrix.double() ** 2).sum())).double())


def test_bad_groups_and_lengths() -> None:
    gradients: list[Gradient] = [[torch.ones(1), torch.ones(1)]]
    with pytest.raises(ValueError, match="index 1 in group 'b', which is out of range or taken"):
        gramian(gradients, {"a": [0, 1], "b": [1]})
    with pytest.raises(ValueError, match="index 2 in group 'a'"):
        gramian(gradients, {"a": [2]})
    with pytest.raises(ValueError, match=r"Found lengths \[2, 1\]"):
        gramian([*gradients, [None]])
    with pytest.raises(ValueError, match=r"Found lengths \[\]"):
        gramian([])


# --------------------------------------------------------------------------------------- sharded


def sharded_equals_whole() -> None:
    """Each process holds its shards; sharded, replicated and plain parameters side by side."""
    full = make_gradients()
    layouts: dict[tuple[int, ...], tuple[Placement, ...]] = {
        (2,): (Shard(0),),
        (1, 2): (Replicate(), Shard(0)),
        (2, 1): (Replicate(), Shard(0)),
    }
    for mesh_shape, placements in layouts.items():
        mesh = init_device_mesh("cpu", mesh_shape)
        sharded = [
            [
                t if t is None or i == 1 else distribute_tensor(t, mesh, placements)
                for i, t in enumerate(gradient)
            ]
            for gradient in full
        ]
        found, expected = gramian(sharded, GROUPS), gramian(full, GROUPS)
        assert_close(found.whole, expected.whole, rtol=1e-12, atol=0)
        assert_close(found.by_group, expected.by_group, rtol=1e-12, atol=0)
        weights = torch.arange(6.0)
        update, expected_update = combine(sharded, weights), combine(full, weights)
        assert_close(update[0].full_tensor(), expected_update[0])  # type: ignore[union-attr]
    mesh = init_device_mesh("cpu", (2,))
    one = distribute_tensor(torch.ones(4), mesh, (Shard(0),))
    with pytest.raises(ValueError, match=r"sharded alike.*plain"):
        gramian([[torch.ones(4)], [one]])
    with pytest.raises(ValueError, match=r"sharded alike.*meshes"):
        gramian([[one], [torch.ones(4)]])
    with pytest.raises(ValueError, match=r"sharded alike.*placements"):
        gramian([[one], [one.redistribute(mesh, (Replicate(),))]])
    with pytest.raises(ValueError, match=r"fully reduced.*Partial"):
        gramian([[DTensor.from_local(torch.ones(4), mesh, (Partial(),))]])


@FORKED
def test_sharded_equals_full(tmp_path: Path) -> None:
    in_processes(2, sharded_equals_whole, tmp_path)
