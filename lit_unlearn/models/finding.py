"""Where a model is: a local folder, a GGUF file, the hub, its cache, or the fetched copy."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lit_unlearn.hub import hub_answers
from lit_unlearn.models.fetch import FETCHABLE, fetched_copy
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.schema import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What ``from_pretrained`` is to be given."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@lru_cache
def find_model(path: str, revision: str | None = None) -> Found:
    """Find a model without loading it; asked again, it answers from memory.

    Args:
        path: Hub id, local folder, .gguf file, or `random-tiny`.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: It is nowhere; the message names what was tried and the repair.
    """
    local = Path(path).expanduser()
    if path == TINY_NAME:
        return Found(path)
    if local.suffix == ".gguf" and local.is_file():
        return Found(str(local.parent), {"gguf_file": local.name})
    if local.is_dir():
        return Found(str(local))
    if path.startswith((".", "/", "~")) or path.count("/") != 1 or local.suffix == ".gguf":
        raise InputError(
            f"Parameter `model.student.path` = {path!r} should be a folder with a model, a .gguf "
            f"file, or a hub id (owner/name). Found nothing at {local.absolute()}. If another run "
            "is to make it, do that run first (its config says so in its header)."
        )
    if hub_answers():
        return Found(path, {"revision": revision})
    copy = fetched_copy(path)
    if copy is not None:
        log.warning("The hub cannot be reached; using the fetched copy of %s in %s.", path, copy)
        return Found(str(copy))
    if _cached_by_the_hub(path, revision):
        return Found(path, {"revision": revision, "local_files_only": True})
    raise InputError(_not_found(path))


def fingerprint(path: str, revision: str | None = None) -> str:
    """Changes when the model that a path names does: name and revision, or the folder's files."""
    found = find_model(path, revision)
    folder = Path(found.name)
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return repr((found, stats))


def _cached_by_the_hub(path: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str)


def _not_found(path: str) -> str:
    names = [name for name, hub_id in FETCHABLE.items() if hub_id == path]
    repair = (
        f"Run `lit-unlearn fetch {names[0]}` once; the copy is then used."
        if names
        else "Give a local folder of the same model: --model.student.path FOLDER."
    )
    return (
        f"Parameter `model.student.path` = {path!r} is a model on the hub. Found neither the hub "
        f"(no answer) nor a copy of it. {repair}"
    )
