"""Loading of parts of a model: a process reads only what it needs from safetensors files.

A model is built without weights, on the meta device, and the file of each weight is recorded. After
the model is sharded, `fill` allocates the slices and reads them, so that no process ever has the
whole model in memory. Without sharding, it can read a few weights alone.

torch's `HuggingFaceStorageReader` reads slices as well, but it reads every safetensors file in a
folder, ignores the index, and needs the parameter names of the model. The loader of transformers is
private and has its own sharding plan.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from lit_unlearn.distributed.ranks import agree, rank
from lit_unlearn.errors import InputError
from lit_unlearn.utils.attention import with_attention
from lit_unlearn.utils.library_internals import initialize_buffers, keeps_float32, refresh_slices

__all__ = ["StoredWeight", "fill", "placeholder_weights", "without_weights"]

log = logging.getLogger(__name__)


class StoredWeight(NamedTuple):
    """The file of a weight, and its key there."""

    file: str
    key: str


_STORED: WeakKeyDictionary[nn.Module, dict[str, StoredWeight]] = WeakKeyDictionary()
"""Stored weights by module and name in it; the names of modules change by sharding and adapters."""


def without_weights(
    name: str, options: dict[str, Any], dtype: torch.dtype, attention: str
) -> nn.Module | None:
    """Return the model of ``from_pretrained`` on the meta device, to be sharded and then filled.

    The result is None, with a logged reason, if each process must read all weights: the files are
    not safetensors, or transformers would convert weights or report a problem.
    """
    try:
        files = _files(name, options)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
        for special in ("quantization_config", "transformers_weights"):
            if getattr(config, special, None) is not None:
                raise ValueError(f"its config has {special}")
        with torch.device("meta"):
            model: Any = with_attention(
                lambda chosen: AutoModelForCausalLM.from_config(
                    config, dtype=dtype, attn_implementation=chosen
                ),
                attention,
            )
        if keeps_float32(model, dtype):
            raise ValueError(f"some of its weights stay float32 where others are {dtype}")
        _note_files(model, files)
        _make_buffers(model)
        with suppress(OSError):  # without such a file, the model's config decides
            if model.can_generate():
                model.generation_config = GenerationConfig.from_pretrained(name, **options)
    except Exception as error:  # of every kind; reading all weights reports damaged files
        if rank() == 0:
            reason = str(error).split("\n")[0]
            log.warning("Each process reads all weights of %s: %s", name, reason)
        return None
    made: nn.Module = model.eval()
    return made


def fill(model: nn.Module, device: torch.device | str, only: Collection[str] | None = None) -> None:
    """Allocate and read the weights of a model on a device; of a sharded model, its slices.

    With ``only``, these parameters alone; the others stay on the meta device. A model that has
    weights is unchanged.

    Raises:
        InputError: A file can no longer be read.
    """
    stored = {part: _STORED.pop(part) for part in model.modules() if part in _STORED}
    if not stored:
        return
    chosen = {p for n, p in model.named_parameters() if p.is_meta and (only is None or n in only)}
    _replace(model, lambda old: torch.empty_like(old, device=device) if old in chosen else old)
    refresh_slices(model)
    wanted: dict[str, list[tuple[str, Tensor]]] = {}
    for part, named in stored.items():
        for name, (file, key) in named.items():
            if not (weight := getattr(part, name)).is_meta:
                wanted.setdefault(file, []).append((key, weight))
    agree(partial(_read_files, wanted))


def _read_files(wanted: dict[str, list[tuple[str, Tensor]]]) -> None:
    """Read weights, given for each file as keys and tensors."""
    try:
        for file, weights in wanted.items():
            with safe_open(file, framework="pt") as opened:
                for key, weight in weights:
                    _read(opened.get_slice(key), weight.detach())
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"File {file} should be readable until its weights are loaded. Found: {error}; start "
            "again, and copy or export the model again if that does not help."
        ) from error


@contextmanager
def placeholder_weights(model: nn.Module) -> Iterator[None]:
    """Replace weights on the meta device within the context by zeros that take no memory.

    peft puts adapters on the device of a layer's weights; on the meta device they would have no
    values.
    """
    _replace(
        model,
        lambda old: (
            torch.zeros((), dtype=old.dtype, device="cpu").expand(old.shape) if old.is_meta else old
        ),
    )
    stand_ins = {id(weight) for weight in model.parameters() if not any(weight.stride())}
    yield
    _replace(
        model,
        lambda old: (
            torch.empty(old.shape, dtype=old.dtype, device="meta") if id(old) in stand_ins else old
        ),
    )


def _files(name: str, options: dict[str, Any]) -> list[str]:
    """Return the safetensors files that ``from_pretrained`` would read."""

    def find(file: str) -> str | None:
        with suppress(OSError):  # there is none
            found: str | None = cached_file(name, file, **options)
            return found
        return None

    if "gguf_file" in options:
        raise ValueError("it is a .gguf file")
    if find("adapter_config.json") is not None:
        raise ValueError("it has adapters")
    single = find(SAFE_WEIGHTS_NAME)
    if single is not None:
        return [single]
    index = find(SAFE_WEIGHTS_INDEX_NAME)
    if index is None:
        raise ValueError("it has no safetensors files")
    files: list[str] = get_checkpoint_shard_files(name, index, **options)[0]
    return files


def _note_files(model: Any, files: list[str]) -> None:
    """Record the file of each weight of a model.

    Raises:
        ValueError: A weight is in no file or in two, has another shape, or must be converted.
    """
    prefix, wanted = model.base_model_prefix, model.state_dict(keep_vars=True)
    conversions = get_model_conversion_mapping(model)
    found: dict[int, str] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 (it is no dictionary)
                if any(conversion.rename_source_key(key)[1] for conversion in conversions):
                    raise ValueError(f"{key} has to be converted")
                name = key if key in wanted else f"{prefix}.{key}"
                if name not in wanted:
                    continue  # transformers leaves it out as well
                weight = wanted[name]
                shape = opened.get_slice(key).get_shape()
                if found.setdefault(id(weight), key) != key or shape != list(weight.shape):
                    raise ValueError(f"{key} occurs twice, or has another shape")
                part, _, own = name.rpartition(".")
                _STORED.setdefault(model.get_submodule(part), {})[own] = StoredWeight(file, key)
    missing = sorted(name for name, weight in wanted.items() if id(weight) not in found)
    if missing:
        raise ValueError(f"its files lack {missing[0]}")


def _make_buffers(model: Any) -> None:
    """Compute buffers that are in no file, such as rotary frequencies."""
    changed: list[nn.Module] = []
    for part in model.modules():
        empty = [(name, b) for name, b in part.named_buffers(recurse=False) if b.is_meta]
        for name, buffer in empty:
            setattr(part, name, torch.empty_like(buffer, device="cpu"))
        changed += [part] if empty else []
    initialize_buffers(model, changed)


def _replace(model: nn.Module, make: Callable[[Tensor], Tensor]) -> None:
    """Replace a model's parameters; tied ones stay tied."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for part in model.modules():
        for name, old in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            if old not in made:
                new = make(old)
                made[old] = old if new is old else nn.Parameter(new, old.requires_grad)
            setattr(part, name, made[old])


def _read(stored: Any, weight: Tensor) -> None:
    """Copy a weight from a file; for a sharded weight, only the rows of this process."""
    if not isinstance(weight, DTensor):
        weight.copy_(stored[...])
        return
    own = weight.to_local()
    (dim,) = (d for d, placement in enumerate(weight.placements) if placement.is_shard())
    rows = -(-len(weight) // weight.device_mesh.size(dim))  # the last processes have fewer, or none
    first = rows * weight.device_mesh.get_local_rank(dim)
    if len(own):
        own.copy_(stored[first : first + len(own)])
