"""A model with its tokenizer, from wherever the commands find one."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_unlearn.errors import InputError
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer
from lit_unlearn.models.start_checks import check_vocabulary

__all__ = ["load_model"]


def load_model(
    path: str, *, revision: str | None = None, dtype: DType = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode, and its tokenizer.

    Args:
        path: Hub id, local folder, .gguf file, or `random-tiny`; a model that `lit-unlearn fetch`
            brought needs no network.
        revision: Branch, tag or commit on the hub.
        dtype: dtype of the weights.
        device: Device as torch names it.

    Raises:
        InputError: The model cannot be found or read.
    """
    source = ModelSource(path, revision=revision, dtype=dtype)
    try:
        model: Any = load_base(source)
        tokenizer = load_tokenizer(source)
        check_vocabulary(model, tokenizer, path)
    except InputError as error:  # it names the parameter of a training run
        raise InputError(str(error).replace("model.student.path", "path")) from error
    return model.to(device), tokenizer
