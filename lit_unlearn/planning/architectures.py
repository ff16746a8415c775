"""Where the shape of a model comes from, if not from its weights: a config of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, LlamaConfig, PretrainedConfig

from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME, tiny_model

_LLAMA_3: dict[str, Any] = {"vocab_size": 128256, "num_key_value_heads": 8, "rope_theta": 500000.0}

KNOWN: dict[str, dict[str, Any]] = {
    "Llama-3.2-1B": {
        **_LLAMA_3,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "Llama-3.1-8B": {
        **_LLAMA_3,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "head_dim": 128,
    },
    "Llama-3.1-70B": {
        **_LLAMA_3,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "head_dim": 128,
    },
}
"""Settings of `LlamaConfig` of models whose config.json needs a login; the instruction-tuned ones
are of the same shape."""


def model_config(source: ModelSource, architecture: str | None = None) -> PretrainedConfig:
    """The config of a model; no weights are read.

    Args:
        source: The model that a run trains.
        architecture: Taken in its place: a name in `KNOWN`, a config.json, or a folder with one.

    Raises:
        InputError: There is no such config, or it cannot be reached.
    """
    if architecture is not None:
        return _named(architecture)
    if source.path == TINY_NAME:
        return tiny_model(source.seed).config
    try:
        found = find_model(source.path, source.revision)
    except InputError as error:
        raise InputError(f"{error} For a plan the shape is enough: {_offer(source.path)}") from None
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(found.name, **found.options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Parameter `model.student.path` = {source.path!r} should name a model whose "
            f"config.json can be read. Found: {str(error).strip().splitlines()[0]}. Use "
            f"{_offer(source.path)}"
        ) from None
    return config


def _offer(path: str) -> str:
    likely = [name for name in KNOWN if name.lower() in path.lower()]
    names = " or ".join(likely or KNOWN)
    return f"--architecture {names}, or --architecture FILE with the model's config.json."


def _named(architecture: str) -> PretrainedConfig:
    if architecture in KNOWN:
        return LlamaConfig(**KNOWN[architecture])
    place = Path(architecture).expanduser()
    file = place / "config.json" if place.is_dir() else place
    if not file.is_file():
        hint = did_you_mean(architecture, KNOWN, otherwise=f"known names: {', '.join(KNOWN)}")
        raise InputError(
            f"--architecture {architecture}: expected a known name, a config.json or a folder with "
            f"one, found none of these; {hint}"
        )
    try:
        content = json.loads(file.read_text("utf-8"))
        kind = content.pop("model_type")
        config: PretrainedConfig = AutoConfig.for_model(kind, **content)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"--architecture {architecture}: expected the config.json of a causal language model, "
            f"found one that transformers cannot use ({type(error).__name__}: {error})"
        ) from None
    return config
