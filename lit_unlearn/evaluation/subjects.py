"""A model to be evaluated: folder, hub id or the random tiny one -> `Subject`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Subject
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.loading import DType, ModelSource, load_base, load_tokenizer

_DEFAULT_LENGTH = 2048


def load_subject(
    path: str,
    dtype: DType = "float32",
    device: str = "auto",
    max_length: int | None = None,
    revision: str | None = None,
    *,
    plain_chat: bool = False,
    hide_pad: bool = False,
) -> Subject:
    """A model with its tokenizer, in evaluation mode, on its device.

    Args:
        path: Hub id, local folder, .gguf file, or `random-tiny`.
        dtype: Number format of the weights.
        device: As torch names it (`cpu`, `cuda:1`); `auto` for the GPU if there is one.
        max_length: Most tokens of a row, prompt and answer together; None for as many as the model
            was made for (2048 where it does not say).
        revision: Branch, tag or commit on the hub.
        plain_chat: Write conversations as ``Question: ... Answer:`` for a tokenizer without chat
            template; without it such probes are refused when they are asked.
        hide_pad: Hide the pad token, or without one the end-of-text token, from attention wherever
            it stands. It is what open-unlearning's masks ``ids != pad`` do, to the ends of turns of
            chat models such as Llama 3 (its issue 128): its published figures depend on it.

    Raises:
        InputError: A model that cannot be found or read, a device that is not there, or a length
            below 1.
    """
    place = _device(device)
    source = ModelSource(path, revision=revision, dtype=dtype)
    with named_model():
        model: Any = load_base(source)
        tokenizer = load_tokenizer(source)
    made_for = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    length = made_for or _DEFAULT_LENGTH if max_length is None else max_length
    if length < 1:
        raise InputError(f"max_length: expected at least 1, found {length}; give a larger number")
    hidden = _pad_id(tokenizer) if hide_pad else None
    return Subject(
        name=path,
        model=model.to(place),
        tokenizer=tokenizer,
        encoder=Encoder(tokenizer, length, "warn"),
        fingerprint=f"{fingerprint(path, revision)} {dtype}{' pad hidden' if hide_pad else ''}",
        plain_chat=plain_chat,
        hidden_id=hidden,
    )


@contextmanager
def named_model(name: str = "model") -> Iterator[None]:
    """Errors of the model finder, which speak of a training run's parameter, name this one."""
    try:
        yield
    except InputError as error:
        told = str(error).replace(": --model.student.path FOLDER", "")
        raise InputError(told.replace("model.student.path", name)) from error


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What open-unlearning pads with.

    Raises:
        InputError: The tokenizer has neither token.
    """
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(found, int):
            return found
    raise InputError(
        "hide_pad: expected a tokenizer with a pad or an end-of-text token, found neither; leave "
        "it out"
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device: expected one that this machine has, found {name!r}; leave it `auto`, or give "
            "`cpu`"
        ) from error
    return place
