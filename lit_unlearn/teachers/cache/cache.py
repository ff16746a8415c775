"""The teacher cache: a frozen teacher reads every row once, not at every step.

What is kept is the input of the output head at the answer positions, one vector of the model's
width D per position, in the model's own number format: ``2 D`` bytes per answer token under
bfloat16, ``4 D`` under float32, whatever the vocabulary. The head turns it into the whole row of
logits again, so that every loss reads what it would read from the model itself; the two differ by
the rounding of matrix products in batches of another shape, and by nothing else.

A row is found by its token ids. They hold its template, its context, its prefill and its answer,
so that a change of any of these is another row.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor, nn

from lit_unlearn.distributed.ranks import base_model, on_first, rank, share, world_size
from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import can_share
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers.cache.head import Head, head_inputs, unsuitable
from lit_unlearn.teachers.cache.rows import Row, collect, in_batches, padded, row_key, sequences
from lit_unlearn.teachers.cache.store import Entry, Shards
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.types import Tokens
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.progress import Stage, shown

_FORM = "with checksums"
"""Of the shards; caches of another form are not looked at."""
_SHARD_TOKENS = 2**17
"""Tokens of the rows of a shard; a build that is killed loses at most so many."""
_BATCH_TOKENS = 2**13
"""Tokens in one forward pass of a build, padding included."""


class CachedReader:
    """Logits from stored hidden states and the output head.

    Args:
        store: The hidden states.
        head: The output head of the model that they come from.
    """

    def __init__(self, store: Shards, head: Head) -> None:
        self.store = store
        self.head = head

    def logits(self, tokens: Tokens) -> Tensor:
        """``[N, V]`` float32 logits at the positions of ``tokens``, without gradient.

        Raises:
            InputError: A row or position is not in the store.
        """
        return self.head.logits(self._hidden(tokens))

    def _hidden(self, tokens: Tokens) -> Tensor:
        """``[N, D]``, in the order of ``tokens.rows``."""
        keys = [row_key(ids) for ids in sequences(tokens)]
        parts: list[Tensor] = []
        starts: dict[int, int] = {}
        lines: list[int] = []
        total = 0
        for row, column in zip(tokens.rows.tolist(), tokens.columns.tolist(), strict=True):
            place = self.store.entries.get(keys[row])
            if place is None or not place.first <= column <= place.last:
                raise self._miss(tokens, row, column)
            if row not in starts:
                parts.append(self.store.read(keys[row]))
                starts[row] = total - place.first
                total += place.count
            lines.append(starts[row] + column)
        return torch.cat(parts)[torch.tensor(lines)]

    def _miss(self, tokens: Tokens, row: int, column: int) -> InputError:
        length = int(tokens.attention_mask[row].sum())
        return InputError(
            f"Teacher cache {self.store.folder}: the teacher should be asked only for what was "
            f"known when training started (`Objective.asks`). Found position {column} of a row of "
            f"{length} tokens that is not there. Set `model.teacher.init_args.cache` to false."
        )


def own_cache(
    teacher: Teacher, requests: Iterable[Tokens], cache: bool | str, source: ModelSource
) -> CachedReader:
    """Fill a teacher's own cache and report it; see `cached`.

    Args:
        teacher: The teacher.
        requests: All that the teacher will be asked for.
        cache: True for the user's cache, or the folder that holds the caches of all teachers.
        source: The model that the teacher was loaded from.
    """
    seed = source.seed if source.path == TINY_NAME else None
    weights = (fingerprint(source.path, source.revision), source.attention, seed)
    root = Path(cache) if isinstance(cache, str) else None
    folder = cache_folder(root, (*weights, next(teacher.model().parameters()).dtype))
    return cached(teacher, requests, folder, Console(stderr=True, quiet=rank() > 0))


def cached(
    teacher: Teacher, requests: Iterable[Tokens], folder: Path, console: Console
) -> CachedReader:
    """Let a teacher read what is not in its cache yet.

    Several processes share the reading out, and the first one writes; all call this alike.

    Args:
        teacher: Who reads.
        requests: All that the teacher will be asked for; repeated rows are read once.
        folder: Where its cache is, from `cache_folder`.
        console: Where sizes and progress are shown.

    Returns:
        A reader that does not need the body of the teacher's model.

    Raises:
        InputError: The disk is too small, the folder is damaged or another model's, or the model
            is of a kind whose head cannot be used alone.
    """
    with shown(Stage("teacher cache: collecting rows", None)):
        rows = collect(requests)
    store, head = Shards(folder, _name(teacher.model())), Head(teacher.model())
    with _locked(store):
        missing = []
        for key, row in rows.items():
            place = store.entries.get(key)
            wide = row if place is None else row.widened(place.first, place.last)
            if place is None or wide.count > place.count:
                missing.append(wide)
        sharing = _check(teacher, rows, store, head)
        if missing:
            _fill(teacher, missing, sharing, store, console)
    store.refresh()
    if any(key not in store.entries for key in rows):
        raise InputError(
            f"Teacher cache {folder}: the folder should be on a disk that all processes share. "
            "Found rows missing that the first process has written. Name another folder with "
            "`model.teacher.init_args.cache`."
        )
    console.print(
        f"Teacher cache: {len(rows)} rows, of which {len(missing)} new, in {folder} "
        f"({decimal(store.size())})",
        soft_wrap=True,
    )
    return CachedReader(store, head)


def cache_folder(root: Path | None, content: Sequence[object]) -> Path:
    """The folder of one teacher's cache.

    Args:
        root: Folder for the caches of all teachers; None takes ``teacher`` in the user's cache.
        content: What the hidden states depend on beside the rows, such as the model's fingerprint
            and number format. Autocasting and the version of transformers are added.
    """
    autocast = [
        (device, torch.get_autocast_dtype(device))
        for device in ("cpu", "cuda")
        if torch.is_autocast_enabled(device)
    ]
    described = repr((*content, autocast, transformers.__version__, _FORM))
    name = text_digest(described)[:16]
    return (user_cache() / "teacher" if root is None else root.expanduser()) / name


def _name(model: nn.Module) -> str:
    """Hub id or folder of a teacher's model; its class where it was loaded from neither."""
    config: Any = getattr(base_model(model), "config", None)
    return getattr(config, "name_or_path", "") or type(model).__name__


# ------------------------------------------------------------------------------------ the build


@contextmanager
def _locked(store: Shards) -> Iterator[None]:
    """Only the processes of one run are inside, and all of them have seen what is there."""
    if rank() == 0:
        with store.locked():
            on_first(lambda: None)
            yield
        return
    on_first(lambda: None)
    store.refresh()
    yield


def _check(teacher: Teacher, rows: dict[bytes, Row], store: Shards, head: Head) -> bool:
    """One row, of those stored if there is one: the teacher, its head alone and the store agree.

    Returns:
        Whether tokens that rows share can be run once.
    """
    known = [key for key in rows if key in store.entries] or list(rows)
    if not known:
        return False
    key = min(known, key=lambda key: len(rows[key].ids))
    place = store.entries.get(key)
    row = rows[key] if place is None else Row(rows[key].ids, place.first, place.last)
    tokens = padded([row])
    model = teacher.model()
    logits = teacher.logits(tokens.to(next(model.parameters()).device))
    if not head.agrees(head_inputs(teacher, tokens), logits):
        raise unsuitable(model)
    if place is not None and not head.agrees(store.read(key), logits):
        raise InputError(
            f"Teacher cache {store.folder}: what is there should come from the teacher. Found the "
            "hidden states of another model, which had the same name. Delete the folder."
        )
    longest = max(len(row.ids) for row in rows.values())
    if row.first == 0 or not can_share(model, longest):
        return False
    return head.agrees(head_inputs(teacher, padded([row]), shared=row.first), logits)


def _fill(
    teacher: Teacher, rows: Sequence[Row], sharing: bool, store: Shards, console: Console
) -> None:
    """Read rows and store them, shard by shard."""
    entries: list[Entry] = []
    batches = list(in_batches(rows, _BATCH_TOKENS))

    def read(own: Sequence[tuple[list[Row], int]]) -> list[Tensor]:
        return [head_inputs(teacher, padded(b), s if sharing else 0).cpu() for b, s in own]

    held = 0
    with shown(Stage("teacher cache", len(rows)), console) as stage:
        for start in range(0, len(batches), world_size()):
            part = batches[start : start + world_size()]
            found = share(part, read, teacher.model())
            if start == 0:
                needed = sum(row.count for row in rows)
                on_first(partial(_check_space, store.folder, needed, found[0][0], console))
            for (batch, _), hidden in zip(part, found, strict=True):
                parts = hidden.split([row.count for row in batch])
                entries += [Entry(r.key, r.first, h) for r, h in zip(batch, parts, strict=True)]
                held += sum(len(row.ids) for row in batch)
                stage.add(len(batch))
            if held >= _SHARD_TOKENS or start + len(part) == len(batches):
                on_first(partial(store.append, entries))
                entries, held = [], 0


def _check_space(folder: Path, count: int, vector: Tensor, console: Console) -> None:
    """Say how large ``count`` such vectors are, and stop where the disk is too small for them."""
    each = vector.numel() * vector.element_size()
    needed, free = int(1.05 * each * count), shutil.disk_usage(folder).free
    console.print(
        f"Teacher cache: {count} answer tokens to be read, {each} bytes each: "
        f"{decimal(each * count)}"
    )
    if free < needed:
        raise InputError(
            f"Teacher cache {folder}: the disk should have {decimal(needed)} free. Found "
            f"{decimal(free)}. Name another folder with `model.teacher.init_args.cache`, or set "
            "LIT_UNLEARN_CACHE."
        )
