"""Work shared by several processes which fails together and never waits for ever.

Without an initialised process group there is one process, and everything here is a plain call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from lit_unlearn.schema import InputError

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _several() else 1


def gather(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if not _several():
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def agree(work: Callable[[], T]) -> T:
    """Do this process's own part; if it fails anywhere, it fails everywhere.

    Raises:
        InputError: Here or in another process.
        RuntimeError: Another process failed in another way.
    """
    if not _several():
        return work()
    error: Exception | None = None
    result: list[T] = []
    try:
        result.append(work())
    except Exception as caught:  # whatever it is, the others must hear of it
        error = caught
    told = None if error is None else (isinstance(error, InputError), f"{error}")
    for number, message in enumerate(gather(told)):
        if error is not None:
            raise error
        if message is not None:
            expected, text = message
            raise InputError(text) if expected else RuntimeError(f"process {number}: {text}")
    return result[0]


def on_first(work: Callable[[], T]) -> T:
    """Let the first process do it, and give its result to all.

    Raises:
        InputError: It failed, for all; likewise `RuntimeError`.
    """
    results = agree(lambda: [work()] if rank() == 0 else [])
    return gather(results)[0][0]


@contextmanager
def in_step(model: nn.Module) -> Iterator[None]:
    """As many forward passes of a model in every process as in the busiest one.

    A sharded model gathers its weights in each forward pass, for which all processes must meet.
    Each pass inside announces itself; a process that is through with its own goes on with passes
    over a single token, whose result is dropped, until nobody announces any more.

    Args:
        model: A causal language model; only its forward passes are kept in step, no backward ones.
    """
    if not _several():
        yield
        return
    device = next(model.parameters()).device
    within: Any = getattr(model, "get_base_model", lambda: model)()
    handles = [
        module.register_forward_pre_hook(lambda *_: _announce(True, device), prepend=True)
        for module in {model, within}
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        one = torch.ones(1, 1, dtype=torch.long, device=device)
        while _announce(False, device):
            with torch.no_grad():
                model(input_ids=one, attention_mask=one, use_cache=False)


def _announce(busy: bool, device: torch.device) -> bool | None:
    """Tell whether a forward pass is about to run here; a process that is through hears of others.

    The busy ones get None, as a hook must, and do not wait for the answer.
    """
    count = torch.tensor(int(busy), device=device)
    dist.all_reduce(count)
    return None if busy else bool(count)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
