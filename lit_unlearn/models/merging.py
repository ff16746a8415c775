"""Adapters merged into their base model: those of a run, and those that a run starts from."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.errors import InputError

__all__ = ["ADAPTER_CONFIG"]
__all__ += ["base_layer", "base_of", "merge_folder", "merged", "shared_weight", "unties_weights"]


log = logging.getLogger(__name__)

ADAPTER_CONFIG = "adapter_config.json"


def base_layer(part: Any) -> Any:
    """Return the layer that peft wrapped with an adapter, or the layer itself."""
    while True:
        inner = getattr(part, "base_layer", None) or getattr(part, "original_module", None)
        if inner is None:
            return part
        part = inner


def shared_weight(model: Any) -> bool:
    """Return whether a model's embedding and output head are one parameter (tied)."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding is None or head is None:
        return False
    return base_layer(embedding).weight is base_layer(head).weight


def unties_weights(model: Any) -> bool:
    """Return whether adapters make a model's tied embedding and output head differ."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return shared_weight(model) and any(base_layer(end) is not end for end in ends)


def merged(model: Any) -> Any:
    """Merge the adapters of peft into their model, in place, and return the plain model.

    peft merges an adapter of the embedding into the shared weight, and so changes the head too.
    If one of the two has an adapter, the head therefore gets a separate copy of the weight first.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    base: Any = base_model(model)
    if unties_weights(base):
        head = base_layer(base.get_output_embeddings())
        head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
        for config in (base.config, base.config.get_text_config()):
            config.tie_word_embeddings = False
    return model.merge_and_unload()


def base_of(folder: Path) -> str | None:
    """Return the base model of a folder's adapters, or None for a folder without adapters.

    A relative path is relative to the working directory, as peft writes it; if nothing is there,
    to the adapters' folder or its parent.

    Raises:
        InputError: The adapters do not name their base model.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    try:
        base = str(json.loads(file.read_text("utf-8"))["base_model_name_or_path"] or "")
        exists = Path(base).expanduser().exists()
    except (ValueError, LookupError, TypeError, OSError, RuntimeError):  # or no possible path
        base, exists = "", False
    if base and exists and Path(base).expanduser().samefile(folder):
        raise InputError(
            f"Parameter `model.student.path`: {file} should name the adapters' base model. Found "
            f"the folder itself, {base}; write the base model's folder or hub id there, or delete "
            "the file if the folder is the base model."
        )
    if not base:
        raise InputError(
            f"{file} should name the adapters' base model as `base_model_name_or_path`. Found "
            "none; write the model's folder or hub id there."
        )
    if not exists:
        for place in (folder / base, folder.parent / base, folder.parent / Path(base).name):
            if place.is_dir() and place.resolve() != folder.resolve():
                return str(place)
    return base


def merge_folder(model: Any, folder: Path) -> Any:
    """Merge the adapters in a folder into ``model``, their base model.

    Raises:
        InputError: peft is missing, or the adapters do not fit or cannot be merged.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError(
            f"{folder} holds adapters, which need the package peft. It is not installed; run: "
            "pip install 'lit-unlearn[lora]'"
        ) from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted: Any = PeftModel.from_pretrained(model, str(folder))
            problem = next(
                (str(w.message) for w in caught if "missing adapter" in str(w.message)), ""
            )
        except Exception as error:  # damaged or foreign files raise errors of every kind
            there = any(folder.glob("adapter_model.*"))
            problem = str(error) if there else "no adapter_model.safetensors"
    if not problem and not hasattr(adapted, "merge_and_unload"):
        problem = f"adapters of the kind {adapted.peft_config['default'].peft_type.value}"
    if problem:
        raise InputError(
            f"{folder} should hold low-rank adapters that can be merged into their model. Found: "
            f"{' '.join(problem.split())[:300]}; merge them with peft, and give the merged folder."
        )
    log.warning("The adapters in %s are merged into %s.", folder, model.name_or_path or "a model")
    whole = merged(adapted)
    whole.__dict__.pop("peft_config", None)
    return whole.requires_grad_(True)
