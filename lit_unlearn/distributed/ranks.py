"""Work that several processes share: an error in one is raised in all, so that none waits forever.

Without an initialised process group there is one process, and every function is a plain call.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lit_unlearn.errors import InputError, ResultError

__all__ = ["R", "T"]
__all__ += ["agree", "base_model", "control", "device_of", "gather", "gather_or_raise", "in_step"]
__all__ += ["is_sharded", "on_first", "opened_on_first", "processes", "rank", "share", "world_size"]

T = TypeVar("T")
R = TypeVar("R")


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _several() else 1


@contextmanager
def processes() -> Iterator[None]:
    """Form a group of the processes that `torchrun` started, if any, within the context."""
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
    """Return the values of all processes, by rank."""
    if not _several():
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value, group=control())
    return found


def gather_or_raise(value: T, errors: Sequence[InputError]) -> list[T]:
    """Return the values of all processes, by rank; an error in any of them is raised in all."""
    found = gather((value, list(errors[:1])))
    for _, first in found:
        if first:
            raise first[0]
    return [each for each, _ in found]


def agree(work: Callable[[], T]) -> T:
    """Do this process's part of some work; an error in any process is raised in all.

    An `InputError` or `ResultError` of another process keeps its type; any other error becomes a
    `RuntimeError`.
    """
    if not _several():
        return work()
    error: Exception | None = None
    result: list[T] = []
    try:
        result.append(work())
    except Exception as caught:  # of every type, since the other processes must know
        error = caught
    kind = next((k for k in (ResultError, InputError) if isinstance(error, k)), None)
    report = None if error is None else (kind, f"{error}")
    for number, message in enumerate(gather(report)):
        if error is not None:
            raise error
        if message is not None:
            expected, text = message
            raise expected(text) if expected else RuntimeError(f"process {number}: {text}")
    return result[0]


def on_first(work: Callable[[], T]) -> T:
    """Let the first process do some work, and return its result in all; see `agree` for errors."""
    results = agree(lambda: [work()] if rank() == 0 else [])
    return gather(results)[0][0]


@contextmanager
def opened_on_first(resource: AbstractContextManager[Any] | None) -> Iterator[None]:
    """Keep a resource open in the first process; an error in opening it is raised in all."""
    with ExitStack() as held:
        if resource is not None:
            on_first(lambda: held.enter_context(resource) and None)
        yield


def share(
    items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], *models: nn.Module
) -> list[R]:
    """Distribute items over the processes; return all results, in the order of the items.

    ``work`` returns one result for each of its items, and is not called without items; it reads
    ``models`` without gradient.
    """
    own = items[rank() :: world_size()]

    def part() -> list[R]:
        with in_step(*models):
            return [*work(own)] if own else []

    parts = gather(agree(part))
    return [parts[index % len(parts)][index // len(parts)] for index in range(len(items))]


def is_sharded(model: nn.Module) -> bool:
    """Return whether each process holds a part of the model's weights."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@contextmanager
def in_step(*models: nn.Module) -> Iterator[None]:
    """Run the same forward passes of sharded models in every process, in the same order.

    A sharded model gathers its weights in each forward pass, so all processes must take part. Each
    pass is announced first. A process that needs another pass, or no further one, takes part
    nevertheless and discards the result. Passes with gradient are followed by a backward pass, so
    each process must need the same number of them. Models that are not sharded are unaffected.

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
                meeting.wait(_DONE)
        finally:
            for handle in handles:
                handle.remove()


_DONE = 1 << 30
"""Announcement of a process that needs no more passes."""


class _Meeting:
    """Agreement of all processes on the next forward pass.

    The number of a pass is the index of its model; passes with gradient have higher numbers than
    all passes without. The lowest number that any process needs is next.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = list(dict.fromkeys(models))
        self._joined: nn.Module | None = None
        self.failed = False
        """Whether an error has ended the passes in all processes."""

    def arrive(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Announce a pass, as a forward pre-hook."""
        if model is self._joined:
            self._joined = None
            return
        own = self.models.index(model)
        self.wait(own + len(self.models) * torch.is_grad_enabled(), own, (args, kwargs))

    def wait(
        self, number: int, own: int = -1, inputs: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    ) -> None:
        """Take part in other processes' passes until the pass of this number is next.

        ``own`` is the index of its model. Other processes' passes of that model are run with this
        pass's inputs, since hooks on the model may expect them.
        """
        while True:
            numbers = self._all(number)
            lowest = int(numbers.min())
            if len(self.models) <= lowest < _DONE and bool((numbers != lowest).any()):
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
        """Return the numbers that the processes announce, ``[W]``."""
        numbers = torch.zeros(world_size(), dtype=torch.int64)
        numbers[rank()] = number
        dist.all_reduce(numbers, group=control())
        return numbers


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which a model computes; its slices may be on another device."""
    parameter = next(model.parameters())
    if isinstance(parameter, DTensor):
        return torch.device(parameter.device_mesh.device_type)
    return parameter.device


def base_model(model: nn.Module) -> nn.Module:
    """Return the model inside adapters, or the model itself."""
    find: Any = getattr(model, "get_base_model", lambda: model)
    found: nn.Module = find()
    return found


_CONTROL: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def control() -> Any:
    """Return a process group for small messages on the CPU, for which no accelerator waits."""
    if "gloo" in dist.get_backend_config():
        return None
    if dist.group.WORLD not in _CONTROL:
        _CONTROL[dist.group.WORLD] = dist.new_group(backend="gloo")
    return _CONTROL[dist.group.WORLD]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
