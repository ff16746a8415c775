"""Load a model for evaluation: path, hub id, `random-tiny` or a loaded model -> `Subject`."""

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
        dtype: Dtype of the weights; `auto` is bfloat16 if the device multiplies it natively, else
            float32.
        device: Torch device (cpu, cuda:1); auto takes a GPU if there is one.
        attention: Attention implementation of transformers; a model without sdpa uses eager
            instead.
        max_length: Maximum number of tokens of a prompt with its answer; null for the context
            length in the model's config (2048 if it has none).
        plain_chat: Write conversations as `Question: ... Answer:` if a model has no chat template;
            otherwise such a model is refused.
        hide_pad: Hide the pad token (if there is none, the end-of-text token) from attention at
            all positions, as open-unlearning's masks `ids != pad` do, also at ends of turns in
            chat models such as Llama 3 (its issue 128). Use it to compare with its figures.
        template: Settings of the chat template; null for those that a run recorded in its export,
            or else the defaults.
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
        InputError: The model cannot be found or read, there is no such device, or `max_length` is
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
    """Return the fingerprint of the weights at a path in a dtype."""
    return f"{path_fingerprint(path, revision)} {str(dtype).removeprefix('torch.')}"


def subject_of(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    loading: Loading | None = None,
    fingerprint: str | None = None,
) -> Subject:
    """Return a loaded causal language model as a subject; it keeps its device and dtype.

    `name` is shown in records and tables. A `fingerprint` of None is computed from the weights.

    Raises:
        InputError: `max_length` is below 1, or there is no token to hide.
    """
    loading = loading or Loading()
    check_number("max_length", loading.max_length, 1)
    pads = [t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if isinstance(t, int)]
    if loading.hide_pad and not pads:
        raise InputError(
            "Parameter `hide_pad` needs a tokenizer with a pad or an end-of-text token. Found "
            "neither; leave `hide_pad` out."
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
    """Extend the fingerprint of weights by the chat template and `hide_pad` (see `Subject`)."""
    known = " ".join(filter(None, (weights, template_key(encoder.tokenizer, encoder.template))))
    return f"{known} pad hidden" if loading.hide_pad else known


def weights_fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 digest of the weights that this process holds."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        local = value.to_local() if hasattr(value, "to_local") else value
        raw = local.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(raw)
    return digest.hexdigest()


def start_fingerprint(source: ModelSource, dtypes: Iterable[torch.dtype], max_length: int) -> str:
    """Return a digest of everything that a start model's answers depend on, except the questions.

    Args:
        source: The model.
        dtypes: Dtypes of its parameters.
        max_length: Maximum number of tokens of a row.
    """
    autocast = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
    about = [*weights_key(source), sorted({*map(str, dtypes)}), autocast, max_length]
    return json_digest([*about, transformers.__version__])


@contextmanager
def named_model(name: str = "model") -> Iterator[None]:
    """Name the parameter `name` in errors of the model finder and of `load_subject`."""
    try:
        yield
    except InputError as error:
        told = str(error).replace(": --model.student.path FOLDER", "")
        told = told.replace("model.student.attention", "attention")
        told = told.replace("`model`", f"`{name}`")  # the name in `load_subject`
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
            f"Parameter `device` should be a device of this machine. Found {name!r}; use `auto` or "
            "`cpu`."
        ) from error
    return place
