"""Shards filled by all processes of a run: all of them read rows, and the first one writes."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import transformers
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import on_first, rank, share, world_size
from lit_unlearn.errors import InputError
from lit_unlearn.teachers.cache.store import Entry, Shards
from lit_unlearn.utils.digests import text_digest

__all__ = ["cache_folder", "fill_shards", "locked_by_all"]

B = TypeVar("B")

_FORMAT = "with checksums"
"""Version of the shard format; caches of other versions are ignored."""


def cache_folder(root: Path, content: Sequence[object]) -> Path:
    """Return the folder of one model's cache below ``root``.

    ``content`` is everything besides the rows that the hidden states depend on, such as the model's
    fingerprint and dtype. Autocasting and the version of transformers are added.
    """
    autocast = [
        (device, torch.get_autocast_dtype(device))
        for device in ("cpu", "cuda")
        if torch.is_autocast_enabled(device)
    ]
    return root / text_digest(repr((*content, autocast, transformers.__version__, _FORMAT)))[:16]


@contextmanager
def locked_by_all(shards: Shards) -> Iterator[None]:
    """Lock shards against other runs; all processes of this run then see the same entries."""
    if rank() == 0:
        with shards.locked():
            on_first(lambda: None)
            yield
        return
    on_first(lambda: None)
    shards.refresh()
    yield


def fill_shards(
    shards: Shards,
    model: nn.Module,
    batches: Sequence[B],
    read: Callable[[B], Sequence[Tensor]],
    entries: Callable[[B, Sequence[Tensor]], tuple[Sequence[Entry], int]],
    count: int,
    shard_tokens: int,
    console: Console,
) -> None:
    """Read batches and store their entries, shard by shard; call it inside `locked_by_all`.

    The batches are the same in every process. ``read`` returns the hidden states of a batch,
    ``[n, D]`` each; ``entries`` returns the entries to store, and the number of tokens read.
    ``count`` is the total number of positions to store. A killed run loses at most
    ``shard_tokens`` tokens.
    """

    def all_of(own: Sequence[B]) -> list[list[Tensor]]:
        return [[states.cpu() for states in read(batch)] for batch in own]

    held: list[Entry] = []
    tokens = 0
    for start in range(0, len(batches), world_size()):
        part = batches[start : start + world_size()]
        found = share(part, all_of, model)
        if start == 0:
            on_first(partial(_check_space, shards, count, found[0][0][:1], console))
        for batch, states in zip(part, found, strict=True):
            new, taken = entries(batch, states)
            held, tokens = [*held, *new], tokens + taken
        if held and (tokens >= shard_tokens or start + len(part) == len(batches)):
            on_first(partial(shards.append, held))
            held, tokens = [], 0


def _check_space(shards: Shards, count: int, vector: Tensor, console: Console) -> None:
    """Print the size of ``count`` vectors, and check that the disk has room for them."""
    each = vector.numel() * vector.element_size()
    needed, free = int(1.05 * each * count), shutil.disk_usage(shards.folder).free
    console.print(
        f"{shards.kind}: {count} positions to be read, {each} bytes each: {decimal(each * count)}"
    )
    if free < needed:
        raise InputError(
            f"{shards.kind} {shards.folder}: the disk should have {decimal(needed)} free. Found "
            f"{decimal(free)}. Set LIT_UNLEARN_CACHE to another folder, or `{shards.setting}` to "
            "false."
        )
