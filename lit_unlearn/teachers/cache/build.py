"""The teacher cache: a frozen teacher reads every row once, not at every step.

The input of the output head is stored at each answer position: one vector of the model's width D
in the model's dtype, which takes ``2 D`` bytes in bfloat16 and ``4 D`` in float32, for any size of
the vocabulary. The head computes all logits from it. Losses get the logits that the model would
return, up to the rounding of matrix products in batches of another shape.

The key of a row is its token ids. They include template, context, prefill and answer, so a change
of any of these makes another row.
"""

from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from torch import Tensor

from lit_unlearn.distributed.ranks import base_model, rank
from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import weights_key
from lit_unlearn.models.forward import StoredTrunk
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.teachers.cache.filling import cache_folder, fill_shards, locked_by_all
from lit_unlearn.teachers.cache.head import CachedReader, Head, head_inputs, unsuitable
from lit_unlearn.teachers.cache.rows import Row, collect, in_batches, padded
from lit_unlearn.teachers.cache.store import Entry, Shards
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.types import Tokens
from lit_unlearn.utils.disk import user_cache
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.progress import Stage, shown

__all__ = ["cached_reader", "fill"]

_SHARD_TOKENS = 2**17
"""Tokens per shard; a killed build loses at most this many."""
_BATCH_TOKENS = 2**13
"""Tokens in one forward pass of a build, padding included."""


def cached_reader(
    teacher: Teacher,
    requests: Iterable[Tokens],
    cache: bool | str,
    source: ModelSource,
    trunk: StoredTrunk | None = None,
) -> CachedReader:
    """Fill the cache of a teacher as its settings say, and show progress; see `fill`.

    ``cache`` is true for the user's cache, or the folder of the caches of all teachers. If the
    teacher has the student's ``trunk``, rows start from its stored outputs.
    """
    root = local_path(cache) if isinstance(cache, str) else user_cache() / "teacher"
    folder = cache_folder(root, (*weights_key(source), next(teacher.model().parameters()).dtype))
    if trunk is not None and not trunk.belongs_to(teacher.model()):
        trunk = None
    return fill(teacher, requests, folder, Console(stderr=True, quiet=rank() > 0), trunk)


def fill(
    teacher: Teacher,
    requests: Iterable[Tokens],
    folder: Path,
    console: Console,
    trunk: StoredTrunk | None = None,
) -> CachedReader:
    """Read and store the rows that are not in a cache yet; all processes must call this.

    Repeated rows of the requests are read once. The folder comes from `cache_folder`. ``trunk`` has
    stored outputs of the teacher's trunk. The returned reader does not need the body of the
    teacher's model.

    Raises:
        InputError: The disk is too small, the folder is damaged or belongs to another model, or the
            model's head cannot be used alone.
    """
    with shown(Stage("teacher cache: collecting rows", None)):
        rows = collect(requests)
    model: Any = teacher.model()
    config = getattr(base_model(model), "config", None)
    name = getattr(config, "name_or_path", "") or type(model).__name__
    shards, head = Shards(folder, name), Head(model)
    with locked_by_all(shards):
        missing = _missing(rows, shards)
        _check(teacher, rows, shards, head)
        if missing:
            _read(teacher, missing, shards, console, trunk)
    shards.refresh()
    if any(key not in shards.entries for key in rows):
        raise InputError(
            f"Teacher cache {folder}: the folder should be on a disk that all processes share. "
            "Found rows missing that the first process has written. Name another folder with "
            "`model.teacher.init_args.cache`."
        )
    console.print(
        f"Teacher cache: {len(rows)} rows, of which {len(missing)} new, in {folder} "
        f"({decimal(shards.size())})",
        soft_wrap=True,
    )
    return CachedReader(shards, head)


def _missing(rows: dict[bytes, Row], shards: Shards) -> list[Row]:
    """Return the rows to read; a row that is stored in part is read with its stored positions."""
    missing = []
    for key, row in rows.items():
        stored = shards.entries.get(key)
        wide = row if stored is None else row.widened(stored.first, stored.last)
        if stored is None or wide.count > stored.count:
            missing.append(wide)
    return missing


def _check(teacher: Teacher, rows: dict[bytes, Row], shards: Shards, head: Head) -> None:
    """Check on one row, if possible a stored one, that teacher, head and cache agree on logits."""
    known = [key for key in rows if key in shards.entries] or list(rows)
    if not known:
        return
    key = min(known, key=lambda key: len(rows[key].ids))
    stored = shards.entries.get(key)
    row = rows[key] if stored is None else Row(rows[key].ids, stored.first, stored.last)
    tokens = padded([row])
    model = teacher.model()
    logits = teacher.logits(tokens.to(next(model.parameters()).device))
    if not head.agrees(head_inputs(teacher, tokens), logits):
        raise unsuitable(model)
    if stored is not None and not head.agrees(shards.read(key), logits):
        raise InputError(
            f"Teacher cache {shards.folder}: the hidden states should come from this teacher. "
            "Found the hidden states of another model, which had the same name. Delete the folder."
        )


def _read(
    teacher: Teacher,
    rows: Sequence[Row],
    shards: Shards,
    console: Console,
    trunk: StoredTrunk | None,
) -> None:
    """Read rows and store them, shard by shard; rows with stored trunk outputs start above it."""
    above = [trunk is not None and trunk.holds(row.ids[: row.last + 1].tolist()) for row in rows]
    batches = [
        batch
        for kind in (False, True)
        for batch in in_batches(compress(rows, (each is kind for each in above)), _BATCH_TOKENS)
    ]

    def entries(batch: list[Row], states: Sequence[Tensor]) -> tuple[list[Entry], int]:
        stage.add(len(batch))
        parts = states[0].split([row.count for row in batch])
        found = [Entry(r.key, r.first, part) for r, part in zip(batch, parts, strict=True)]
        return found, sum(len(row.ids) for row in batch)

    with shown(Stage("teacher cache", len(rows)), console) as stage:
        fill_shards(
            shards,
            teacher.model(),
            batches,
            lambda batch: [head_inputs(teacher, padded(batch), trunk)],
            entries,
            sum(row.count for row in rows),
            _SHARD_TOKENS,
            console,
        )
