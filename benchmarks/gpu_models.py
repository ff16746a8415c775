"""Models of gpu_check.py: SmolLM2 if it is on this machine, else random weights in a real shape."""

import shutil
from pathlib import Path
from typing import Any

import torch
from cost import MODEL
from gpu_parts import Settings
from random_models import built_tokenizer, random_model
from transformers import LlamaConfig, PretrainedConfig

from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.architectures import model_config

SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
"""Shape of SmolLM2-135M-Instruct, used if its weights are not on this machine."""
TINY = {
    "vocab_size": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
"""Widths for a test; the vocabulary is that of the tokenizer."""


def shape_of(name: str, *, tiny: bool) -> PretrainedConfig:
    """Return the config of a model."""
    known = name == "SmolLM2-135M"
    config = LlamaConfig(**SMOLLM2) if known else model_config(ModelSource(name), name)
    blocks = {} if known else {"num_hidden_layers": 2}  # the quickstart names blocks by number
    return LlamaConfig(**{**config.to_dict(), **TINY, **blocks}) if tiny else config


def smollm2() -> Path | None:
    """Return the folder of SmolLM2-135M-Instruct, or None if it is not on this machine."""
    try:
        return Path(find_model(MODEL).name)
    except InputError:
        return None


def model_of(name: str, settings: Settings) -> tuple[str, str]:
    """Return the folder of a model, which is created if necessary, and whether it is real."""
    real = None if settings.tiny else smollm2()
    if real is not None and name == "SmolLM2-135M":
        return str(real), "real weights"
    config, folder = shape_of(name, tiny=settings.tiny), settings.folder / "models" / name
    free, needed = shutil.disk_usage(settings.folder).free, 2 * parameters(config)
    if not folder.exists() and free < 1.1 * needed:
        raise InputError(
            f"{settings.folder} should have {1.1 * needed / 1e9:.0f} GB free for {name}. Found "
            f"{free / 1e9:.0f} GB; give another --folder."
        )
    tokenizer = built_tokenizer(settings.data) if real is None else real
    random_model(folder, config, tokenizer, torch.bfloat16, settings.device)
    return str(folder), "random weights"


def parameters(config: Any) -> int:
    """Return the approximate number of parameters of a Llama."""
    width = config.hidden_size
    heads = config.head_dim * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    block = width * heads + 3 * width * config.intermediate_size
    outside = width * config.vocab_size * (1 if config.tie_word_embeddings else 2)
    return int(config.num_hidden_layers * block + outside)
