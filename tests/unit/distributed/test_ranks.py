"""What processes share: work, results, errors, and forward passes of sharded models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from lit_unlearn.distributed.ranks import (
    gather_or_raise,
    in_step,
    is_sharded,
    on_first,
    rank,
    share,
    world_size,
)
from lit_unlearn.distributed.reduction import first, merged, summed, totals
from lit_unlearn.distributed.sharding import Sharding, whole, whole_state
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from tests.processes import FORKED, in_processes
from tests.unit.objectives.given import SINGLE, batch_of

TOKENS = batch_of(SINGLE).student


def outcome(work: Callable[[], Any]) -> Any:
    """What it returns, or what it raises, in words."""
    try:
        return work()
    except (InputError, RuntimeError, ArithmeticError) as error:
        return f"{type(error).__name__}: {error}"


def test_one_process_is_a_plain_call() -> None:
    asked: list[list[int]] = []

    def squares(own: list[int]) -> list[int]:
        asked.append([*own])
        return [n * n for n in own]

    assert share([1, 2, 3], squares) == [1, 4, 9]
    assert asked == [[1, 2, 3]]
    assert (rank(), world_size(), on_first(lambda: 7), gather_or_raise(5, [])) == (0, 1, 7, [5])
    gradient: list[Tensor | None] = [torch.ones(2), None]
    assert summed(gradient, [torch.zeros(2), torch.zeros(1)]) is gradient


def test_totals() -> None:
    """Sums 1 + 2 + 3 and 4 over three and one values: the mean is 10 / 4, not (2 + 4) / 2."""
    one = totals([{"loss": torch.tensor([1.0, 2.0])}, {"loss": torch.tensor([3.0])}])
    two = totals([{"loss": torch.tensor([4.0]), "more": torch.tensor([5.0])}])
    assert merged([one, two, {}]) == {"loss": (10.0, 4), "more": (5.0, 1)}


# --------------------------------------------------------------------------------- three processes


def shared() -> dict[str, Any]:
    own = float(rank())
    gradient: list[Tensor | None] = [
        torch.full((2,), own + 1),
        torch.ones(1) if rank() == 1 else None,  # touched in one process alone
        None,
    ]
    errors = [InputError("row 7")] if rank() == 2 else []
    return {
        "five": share(range(5), lambda some: [(n, rank()) for n in some]),
        "none": share([], lambda some: [*some]),
        "sum": summed(gradient, [torch.zeros(2), torch.zeros(1), torch.zeros(1)]),
        "first": first(torch.tensor([own])),
        "raised": outcome(lambda: gather_or_raise(1, errors)),
        "share raised": outcome(lambda: share(range(2), lambda some: [1 // int(n) for n in some])),
    }


@FORKED
def test_three_processes(tmp_path: Path) -> None:
    for found in in_processes(3, shared, tmp_path):
        assert found["five"] == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1)]
        assert found["none"] == []
        assert_close(found["sum"], [torch.full((2,), 6.0), torch.ones(1), None])
        assert found["first"] == 0
        assert found["raised"] == "InputError: row 7"
        assert found["share raised"].endswith("by zero")


# ---------------------------------------------------------------------------------- sharded models


def sharded(seed: int = 0) -> nn.Module:
    model = make_tiny_model(seed)
    mesh = init_device_mesh("cpu", (world_size(),))
    Sharding(mesh).apply(model, decoder_blocks(model))
    return model


def passes() -> dict[str, Any]:
    """Two models, read in another order and another number in each process."""
    student, teacher = sharded(0), sharded(1)

    def read(model: nn.Module, gradient: bool = False) -> Tensor:
        with torch.set_grad_enabled(gradient):
            return answer_logits(model, TOKENS)

    with in_step(student, teacher):
        if rank() == 0:  # scores the student first, and asks the teacher twice
            read(teacher)
            read(student)
            read(teacher)
        taught = read(teacher)
        logits = read(student, gradient=True)
    logits.sum().backward()
    embedding = next(student.parameters())
    assert isinstance(embedding, DTensor)
    assert embedding.grad is not None

    def unequal() -> None:
        with in_step(student):
            if rank() == 0:
                read(student, gradient=True)

    with pytest.raises(RuntimeError, match="equally often"):
        unequal()
    return {
        "logits": logits.detach(),
        "taught": taught,
        "gradient": whole(embedding.grad),
        "local": embedding.to_local().shape,
        "state": whole_state(student),
    }


@FORKED
def test_passes_of_sharded_models_keep_step(tmp_path: Path) -> None:
    student, teacher = make_tiny_model(0), make_tiny_model(1)
    logits = answer_logits(student, TOKENS)
    logits.sum().backward()
    embedding = next(student.parameters())
    found = in_processes(2, passes, tmp_path)
    for one in found:
        assert_close(one["logits"], logits.detach())
        assert_close(one["taught"], answer_logits(teacher, TOKENS).detach())
        assert_close(one["gradient"], embedding.grad)  # both processes read the same rows
        assert one["local"][0] in (len(embedding) // 2, (len(embedding) + 1) // 2)
    assert_close(found[0]["state"], dict(student.state_dict()))
    assert found[1]["state"] == {}
    assert not is_sharded(student)
