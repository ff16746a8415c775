"""Find a model: in a local folder, a GGUF file, on the hub, in its cache, or as a fetched copy."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_unlearn.errors import InputError
from lit_unlearn.models.fetch import fetched_copy
from lit_unlearn.models.fetchable import FETCHABLE
from lit_unlearn.models.merging import ADAPTER_CONFIG, base_of
from lit_unlearn.models.start_folder import holds_model, unusable
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.utils.digests import file_digest, text_digest
from lit_unlearn.utils.hub import hub_answers
from lit_unlearn.utils.paths import local_path

if TYPE_CHECKING:
    from lit_unlearn.models.loading import ModelSource

__all__ = ["MODEL_FILES", "Found", "find_model", "fingerprint", "place_of", "weights_key"]

log = logging.getLogger(__name__)

MODEL_FILES = (
    "*.safetensors",
    "*.bin",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "additional_chat_templates/*",
)
"""Files of a folder that the model's behaviour depends on."""


@dataclass(frozen=True)
class Found:
    """Arguments for ``from_pretrained``."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    adapters: Path | None = None
    """Folder with adapters that belong to this model; see `merging`."""


@lru_cache
def find_model(path: str, revision: str | None = None) -> Found:
    """Find a model without loading it; the result is cached.

    ``path`` is a hub id, local folder, .gguf file, or `random-tiny`. The folder of a run stands for
    the model that it exported.

    Raises:
        InputError: There is no such model; the message names what was tried and the repair.
    """
    local = local_path(path)
    if path == TINY_NAME:
        return Found(path)
    if local.suffix == ".gguf" and local.is_file():
        return Found(str(local.parent), {"gguf_file": local.name})
    if local.is_dir():
        return _in_folder(path, local)
    is_path = path.startswith((".", "/", "~")) or path.count("/") != 1 or path.endswith(".gguf")
    if is_path or local.is_file():
        found = f"nothing at {local.absolute()}. If another run is to make it, do that run first"
        raise InputError(
            f"Parameter `model.student.path` = {path!r} should be a folder with a model, a .gguf "
            "file, or a hub id (owner/name). Found "
            f"{'another file; give the folder' if local.is_file() else found}."
        )
    if hub_answers():
        return Found(path, {"revision": revision})
    copy = fetched_copy(path)
    if copy is not None:
        _say_fetched(path, copy)
        return Found(str(copy))
    if _commit(path, revision) is not None:
        return Found(path, {"revision": revision, "local_files_only": True})
    names = [name for name, model in FETCHABLE.items() if model.hub_id == path]
    repair = (
        f"Run `lit-unlearn fetch {names[0]}` once; the copy is then used."
        if names
        else "Give a local folder of the same model: --model.student.path FOLDER."
    )
    raise InputError(
        f"Parameter `model.student.path` = {path!r} is a model on the hub. Found neither the hub "
        f"(no answer) nor a copy of it. {repair}"
    )


def place_of(path: str) -> Path:
    """Return the folder or .gguf file that a model is read from; a hub id stays one.

    Raises:
        InputError: See `find_model`.
    """
    found = find_model(path)
    return Path(found.name, found.options.get("gguf_file", ""))


@lru_cache
def _say_fetched(path: str, copy: Path) -> None:
    """Say once that a fetched copy is used."""
    log.warning("The hub cannot be reached; using the fetched copy of %s in %s.", path, copy)


def _in_folder(path: str, folder: Path) -> Found:
    """Return the model in a folder; for a folder of adapters, their base model."""
    exported = folder / "model"
    if not holds_model(folder) and holds_model(exported):
        log.warning("%s is the folder of a run; using its model, %s.", path, exported)
        folder = exported
    base = base_of(folder)
    if base is not None:
        if (Path(base).expanduser() / ADAPTER_CONFIG).is_file():
            raise InputError(
                f"Parameter `model.student.path` = {path!r} should hold adapters of a whole model. "
                f"Found adapters of the adapters in {base!r}; merge those with peft, and name the "
                f"merged folder in {folder / ADAPTER_CONFIG}."
            )
        try:
            found = find_model(base)
        except InputError as error:
            raise InputError(
                f"Parameter `model.student.path` = {path!r} holds adapters of {base!r}, which "
                "should be there too. Found nothing of that name; write its folder into "
                f"{folder / ADAPTER_CONFIG}, as `base_model_name_or_path`."
            ) from error
        return replace(found, adapters=folder)
    problem = unusable(folder)
    if problem:
        raise InputError(
            f"Parameter `model.student.path` = {path!r} should name a folder with a causal "
            f"language model and its tokenizer, a .gguf file, or a hub id. Found {problem}."
        )
    return Found(str(folder))


def fingerprint(path: str, revision: str | None = None) -> str:
    """Return a text that identifies the model at a path.

    For a folder or a GGUF file it is a digest of the model's files; their location and other files
    do not count. For a hub id it is the downloaded commit; before the first download, the revision.
    """
    found = find_model(path, revision)
    if found.adapters is not None:
        return text_digest(f"{fingerprint(found.name)} {_digest_of(found.adapters)}")
    folder = Path(found.name)
    if not folder.is_dir():
        return f"{found.name} {_commit(found.name, revision) or revision}"
    if "gguf_file" in found.options:
        return _digest_of(folder, found.options["gguf_file"])
    return _digest_of(folder)


def _digest_of(folder: Path, file: str | None = None) -> str:
    """Return a digest of the files of a model in a folder, or of one of them."""
    if file is not None:
        files = [folder / file]
    else:
        matches = {file for pattern in MODEL_FILES for file in folder.glob(pattern)}
        files = sorted(file for file in matches if file.is_file())
    stats = ((file, file.stat()) for file in files)
    digests = ((f.name, _file_digest(f, stat.st_size, stat.st_mtime_ns)) for f, stat in stats)
    return text_digest("".join(f"{name} {digest}\n" for name, digest in digests))


def weights_key(source: ModelSource) -> tuple[object, ...]:
    """Return all that a start model's outputs depend on, except its dtype."""
    seed = source.seed if source.path == TINY_NAME else None
    return (fingerprint(source.path, source.revision), source.attention, seed)


@lru_cache(maxsize=1024)
def _file_digest(file: Path, size: int, changed: int) -> str:
    """Return the digest of a file, read again only when its size or time of change differs."""
    return file_digest(file)


def _commit(hub_id: str, revision: str | None) -> str | None:
    """Return the commit in the hub's cache, where folders have the name of their commit."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except ValueError:  # not a valid hub id
        return None
    return Path(config).parent.name if isinstance(config, str) else None
