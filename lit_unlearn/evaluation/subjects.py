"""A model to be evaluated: folder, hub id, the random tiny one or a loaded model -> `Subject`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import Subject
from lit_unlearn.models.dtypes import DType, resolve_dtype
from lit_unlearn.models.finding import fingerprint as path_fingerprint
from lit_unlearn.models.finding import weights_key
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer
from lit_unlearn.models.start_checks import check_vocabulary
from lit_unlearn.utils.attention import Attention
from lit_unlearn.utils.chat_template import Template, recorded_template, template_key
from lit_unlearn.utils.digests import json_digest

__all__ = [
    "Loading",
    "device_named",
    "encoder_for",
    "load_subject",
    "named_model",
    "path_and_dtype",
    "start_fingerprint",
    "subject_of",
    "weights_fingerprint",
    "whole_fingerprint",
]

_DEFAULT_LENGTH = 2048


@dataclass(frozen=True)
class Loading:
    """Settings of a model under evaluation.

    Args:
        dtype: Dtype of the weights; `auto` is bfloat16 where the device multiplies it natively,
            else float32.
        device: As torch names it (cpu, cuda:1); auto takes a GPU where there is one.
        attention: Attention implementation of transformers; eager takes the place of sdpa where a
            model has no sdpa.
        max_length: Most tokens of a prompt and its answer; null for as many as the model was made
            for (2048 where it does not say).
        plain_chat: Write conversations as `Question: ... Answer:` for a model without chat
            template, which is refused otherwise.
        hide_pad: Hide the pad token (without one, the end-of-text token) from attention wherever it
            stands. So do open-unlearning's masks `ids != pad`, also at the ends of turns of chat
            models such as Llama 3 (its issue 128). For comparison with figures published with it.
        template: Settings of the chat template; null for those that the export of a run recorded
            in the model's folder, else for the defaults.
    """

    dtype: DType = "float32"
    device: str = "auto"
    attention: Attention = "sdpa"
    max_length: int | None = None
    plain_chat: bool = False
    hide_pad: bool = False
    template: Template | None = None


def load_subject(path: str, loading: Loading | None = None, revision: str | None = None) -> Subject:
    """Load a model and its tokenizer; the model is in evaluation mode, on its device.

    The path is a hub id, a local folder, a .gguf file or `random-tiny`; `revision` is a branch, tag
    or commit on the hub.

    Raises:
        InputError: A model that cannot be found or read, a device that is not there, or a length
            below 1.
    """
    loading = loading or Loading()
    place = device_named(loading.device)
    dtype = resolve_dtype(loading.dtype, place)
    source = ModelSource(path, revision=revision, attention=loading.attention)
    with named_model():
        model: Any = load_base(source, dtype)
        tokenizer = load_tokenizer(source)
        check_vocabulary(model, tokenizer, path)
        fingerprint = path_and_dtype(path, revision, dtype)
    return subject_of(model.to(place), tokenizer, path, loading, fingerprint)


def path_and_dtype(path: str, revision: str | None, dtype: torch.dtype) -> str:
    """Return the fingerprint of the weights at a path, loaded in a dtype."""
    return f"{path_fingerprint(path, revision)} {str(dtype).removeprefix('torch.')}"


def subject_of(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    loading: Loading | None = None,
    fingerprint: str | None = None,
) -> Subject:
    """Describe a causal language model that is loaded; it stays on its device, in its dtype.

    `name` is that in records and tables. A fingerprint (see `Subject`) of None is made of the
    weights.

    Raises:
        InputError: A length below 1, or no token to be hidden.
    """
    loading = loading or Loading()
    check_number("max_length", loading.max_length, 1)
    pads = [t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if isinstance(t, int)]
    if loading.hide_pad and not pads:
        raise InputError(
            "Parameter `hide_pad` needs a tokenizer with a pad or an end-of-text token. Found "
            "neither; leave it out."
        )
    encoder = encoder_for(tokenizer, model.config, loading)
    known = whole_fingerprint(fingerprint or weights_fingerprint(model), encoder, loading)
    hidden_id = pads[0] if loading.hide_pad else None
    return Subject(name, model, tokenizer, encoder, known, loading.plain_chat, hidden_id)


def encoder_for(tokenizer: PreTrainedTokenizerBase, config: Any, loading: Loading) -> Encoder:
    """Return the encoder of a model with this tokenizer and config."""
    made_for = getattr(config.get_text_config(), "max_position_embeddings", None)
    template = loading.template or recorded_template(tokenizer.init_kwargs) or Template()
    length = loading.max_length or made_for or _DEFAULT_LENGTH
    return Encoder(tokenizer, length, "warn", template)


def whole_fingerprint(weights: str, encoder: Encoder, loading: Loading) -> str:
    """Return `Subject.fingerprint` of weights with this fingerprint."""
    known = " ".join(filter(None, (weights, template_key(encoder.tokenizer, encoder.template))))
    return f"{known} pad hidden" if loading.hide_pad else known


def weights_fingerprint(model: nn.Module) -> str:
    """Return 64 hexadecimal digits that change when a weight in this process does."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        local = value.to_local() if hasattr(value, "to_local") else value
        raw = local.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(raw)
    return digest.hexdigest()


def start_fingerprint(source: ModelSource, dtypes: Iterable[torch.dtype], max_length: int) -> str:
    """Return a digest of all that a start model's answers depend on beside the questions.

    Args:
        source: The model.
        dtypes: Dtypes of its parameters.
        max_length: Most tokens of a row.
    """
    autocast = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
    about = [*weights_key(source), sorted({*map(str, dtypes)}), autocast, max_length]
    return json_digest([*about, transformers.__version__])


@contextmanager
def named_model(name: str = "model") -> Iterator[None]:
    """Let errors of the model finder, which name a training run's parameter, name this one."""
    try:
        yield
    except InputError as error:
        told = str(error).replace(": --model.student.path FOLDER", "")
        told = told.replace("model.student.attention", "attention")
        raise InputError(told.replace("model.student.path", name)) from error


def device_named(name: str) -> torch.device:
    """Return a device as `Loading.device` names it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"Parameter `device` should be one that this machine has. Found {name!r}; leave it "
            "`auto`, or give `cpu`."
        ) from error
    return place
