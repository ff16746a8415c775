"""Models with random weights in the shape of real models, for benchmarks of speed."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.models.tiny import tiny_tokenizer

_WORDS = 4000
"""Vocabulary of a built tokenizer: about four letters per token of TOFU, as for real ones."""
_DONE = "random.txt"
"""File that is written last, and marks a complete model."""


def built_tokenizer(data: Path) -> Any:
    """Return a tokenizer that is trained on rows of TOFU and the built-in ones.

    Args:
        data: Folder with TOFU.
    """
    tofu = [Source("locuslab/TOFU", config=name, limit=400) for name in ("forget10", "retain90")]
    rows = load_examples([*tofu, Source("builtin:neighbor", split="train")], data)
    texts = [text for row in rows for text in (row.question, row.answer)]
    made = tiny_tokenizer()
    made.backend_tokenizer.pre_tokenizer = ByteLevel(
        add_prefix_space=False
    )  # no token of two words
    return made.train_new_from_iterator(texts, _WORDS)


def random_model(
    folder: Path,
    config: PretrainedConfig,
    tokenizer: Any,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Path:
    """Write a model with random weights and a tokenizer into a folder, unless it exists.

    Args:
        folder: Folder of the model.
        config: Shape of the model.
        tokenizer: A tokenizer, or the folder of a model that has one.
        dtype: Dtype of the weights.
        device: Device that draws the random numbers; a GPU is much faster.
    """
    if (folder / _DONE).exists():
        return folder
    if isinstance(tokenizer, Path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder, max_shard_size="4GB")
    tokenizer.save_pretrained(folder)
    (folder / _DONE).write_text("Random weights: benchmarks/random_models.py\n", "utf-8")
    return folder
