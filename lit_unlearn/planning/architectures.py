"""The shape of a model from its config; no weights are read."""

import json

from transformers import AutoConfig, LlamaConfig, PretrainedConfig

from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import TINY_NAME, tiny_model
from lit_unlearn.utils.paths import local_path

__all__ = ["KNOWN", "model_config"]

KNOWN = {
    "Llama-3.2-1B": (2048, 8192, 16, 32, 64, True),
    "Llama-3.1-8B": (4096, 14336, 32, 32, 128, False),
    "Llama-3.1-70B": (8192, 28672, 80, 64, 128, False),
}
"""Width, width of the MLP, blocks, heads, width of a head, and whether embedding and head are tied,
of models whose config.json needs a login. Instruction-tuned models have the same shape."""


def model_config(source: ModelSource, architecture: str | None = None) -> PretrainedConfig:
    """Return the config of a model.

    Args:
        source: Model that a run trains.
        architecture: Replaces its config: a name in `KNOWN`, a config.json, or a folder with one.

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
        raise InputError(f"{error} A plan needs only the shape: {_offer(source.path)}") from None
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
        width, inner, blocks, heads, head_width, tied = KNOWN[architecture]
        return LlamaConfig(
            vocab_size=128256,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            num_key_value_heads=8,
            head_dim=head_width,
            tie_word_embeddings=tied,
        )
    place = local_path(architecture)
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
