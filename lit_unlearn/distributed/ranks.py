"""Work shared by several processes which fails together and never waits for ever.

Without an initialised process group there is one process, and everything here is a plain call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lit_unlearn.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _several() else 1


@contextmanager
def processes() -> Iterator[None]:
    """Inside, those that `torchrun` has started work together; one that runs alone stays alone."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if not _several():
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value, group=control())
    return found


def gather_or_raise(value: T, errors: Sequence[InputError]) -> list[T]:
    """The values of all processes, or the first error that any of them has, in all of them.

    Raises:
        InputError: A process has one.
    """
    found = gather((value, list(errors[:1])))
    for _, first in found:
        if first:
            raise first[0]
    return [each for each, _ in found]


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


def share(
    items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], *models: nn.Module
) -> list[R]:
    """Share items out; every process gets all results, in the order of the items.

    Args:
        items: The same in every process.
        work: Gives one result for each item that it gets; not called without items.
        models: What `work` reads, without gradient.

    Raises:
        InputError: Some process's part failed; likewise `RuntimeError`.
    """
    own = items[rank() :: world_size()]

    def part() -> list[R]:
        with in_step(*models):
            return [*work(own)] if own else []

    parts = gather(agree(part))
    return [parts[index % len(parts)][index // len(parts)] for index in range(len(items))]


# ---------------------------------------------------------------------------------- sharded models


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the model's weights."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@contextmanager
def in_step(*models: nn.Module) -> Iterator[None]:
    """The same forward passes of sharded models in every process, in the same order.

    A sharded model gathers its weights in each forward pass, for which all processes must meet.
    Each pass inside says first which one it is; a process that needs another one, or is through
    with its own, takes part all the same, and drops the result. Passes with gradient have a
    backward pass to come, so that each process must need the same number of them.

    Args:
        models: Causal language models. Those that are not sharded are left alone.

    Raises:
        RuntimeError: The processes need different numbers of passes with gradient.
    """
    shards = [model for model in models if is_sharded(model)] if _several() else []
    if not shards:
        yield
        return
    meeting = _Meeting([base_model(model) for model in shards])
    handles = [
        model.register_forward_pre_hook(meeting.arrive, prepend=True, with_kwargs=True)
        for model in meeting.models
    ]
    try:
        yield
    finally:
        try:
            if not meeting.failed:
                meeting.wait(_THROUGH)
        finally:
            for handle in handles:
                handle.remove()


_THROUGH = 1 << 30
"""What a process says that has no more passes to come."""


class _Meeting:
    """Agrees with the other processes on the next forward pass.

    Args:
        models: Passes have the model's index as number, and those with gradient come after all
            without; the lowest number that any process needs is next.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = list(dict.fromkeys(models))
        self._joined: nn.Module | None = None
        self.failed = False
        """Whether it came to an end in all processes."""

    def arrive(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook: a pass begins here."""
        if model is self._joined:
            self._joined = None
            return
        own = self.models.index(model)
        self.wait(own + len(self.models) * torch.is_grad_enabled(), own, (args, kwargs))

    def wait(
        self, number: int, own: int = -1, inputs: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    ) -> None:
        """Take part in others' passes until this one is next.

        Args:
            number: Of the pass.
            own: Index of its model, which hooks for its own inputs may hang on.
            inputs: Its own.
        """
        while True:
            numbers = self._all(number)
            lowest = int(numbers.min())
            if len(self.models) <= lowest < _THROUGH and bool((numbers != lowest).any()):
                self.failed = True
                raise RuntimeError(
                    "An objective should read the student with gradient equally often in every "
                    f"process. Found the passes {numbers.tolist()} at one time."
                )
            if lowest == number:
                return
            one = torch.ones(1, 1, dtype=torch.long, device=device_of(self.models[lowest]))
            token = {"input_ids": one, "attention_mask": one, "use_cache": False}
            args, kwargs = inputs if lowest == own else ((), token)
            self._joined = self.models[lowest]
            with torch.no_grad():
                self._joined(*args, **kwargs)

    def _all(self, number: int) -> Tensor:
        """``[W]``: what each process says."""
        numbers = torch.zeros(world_size(), dtype=torch.int64)
        numbers[rank()] = number
        dist.all_reduce(numbers, group=control())
        return numbers


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes; slices of its weights may be kept elsewhere."""
    parameter = next(model.parameters())
    if isinstance(parameter, DTensor):
        return torch.device(parameter.device_mesh.device_type)
    return parameter.device


def base_model(model: nn.Module) -> nn.Module:
    """The model within adapters, or the model itself."""
    find: Any = getattr(model, "get_base_model", lambda: model)
    found: nn.Module = find()
    return found


# ------------------------------------------------------------------------------------------- groups


_CONTROL: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def control() -> Any:
    """A process group for small things on the CPU, so that no accelerator waits for them."""
    if "gloo" in dist.get_backend_config():
        return None
    if dist.group.WORLD not in _CONTROL:
        _CONTROL[dist.group.WORLD] = dist.new_group(backend="gloo")
    return _CONTROL[dist.group.WORLD]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
