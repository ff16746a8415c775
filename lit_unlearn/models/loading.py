"""A causal language model and its tokenizer from a hub id, a local folder or a GGUF file."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lit_unlearn.distributed.slices import without_weights
from lit_unlearn.errors import InputError, check_pattern
from lit_unlearn.models.compiling import compile_blocks
from lit_unlearn.models.dtypes import DType, resolve_dtype
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.lora import LoRA, adapted
from lit_unlearn.models.merging import merge_folder, unties_weights
from lit_unlearn.models.noise import Noise, add_noise
from lit_unlearn.models.start_checks import check_vocabulary, choose_template
from lit_unlearn.models.tiny import TINY_NAME, tiny_model, tiny_tokenizer
from lit_unlearn.utils.attention import Attention, with_attention

__all__ = ["LoRA", "ModelSource"]
__all__ += ["empty_student", "load_base", "load_model", "load_student", "load_tokenizer"]
__all__ += ["recompute_activations", "train_only", "with_adapters"]

log = logging.getLogger(__name__)

_CAUSES = {
    "instantiate the backend tokenizer": "no tokenizer that can be read",
    "'scores'": "a GGUF file whose tokenizer has no merges; give the folder that it was made from",
    "ignore_mismatched_sizes": "weights of other shapes than its config.json says",
}
"""Cause of an error, by a part of transformers' unclear message."""


@dataclass
class ModelSource:
    """The model to train, and how it is loaded.

    Args:
        path: Hub id, local folder, a .gguf file, or `random-tiny` (a random model for smoke runs).
        revision: Branch, tag or commit on the hub.
        dtype: The dtype of the trained weights. float32 keeps small updates, which pure bfloat16
            rounds away; for speed use `--trainer.precision auto` instead.
        lora: Train low-rank adapters and keep the model frozen; null trains all weights.
        trainable: Regular expressions that are searched in the names of parameters; those with a
            match are trained, null trains all. RMU trains `layers[.](5|6|7)[.]mlp[.]down_proj`.
        activation_checkpointing: Recompute activations in the backward pass to save memory.
        attention: Attention implementation of transformers; a model without sdpa gets eager.
        seed: Seed of new weights (adapters, the random model).
        noise: Damage the weights before training starts; null for no damage. All weights must be
            trained.
        compile: Compile the decoder blocks for training (`torch.compile`). Needs a C++ compiler on
            a CPU, Triton on a GPU; the first step takes a minute longer. Results differ by
            rounding.
        cache_trunk: Compute the output of the blocks below the first trained one once per training
            sequence, and keep it on disk; training then starts above these blocks. `auto` does so
            if they are frozen and without active dropout.
    """

    path: str
    revision: str | None = None
    dtype: DType = "float32"
    lora: LoRA | None = None
    trainable: list[str] | None = None
    activation_checkpointing: bool = False
    attention: Attention = "sdpa"
    seed: int = field(default=0)
    noise: Noise | None = None
    compile: bool = False
    cache_trunk: Literal["auto"] | bool = "auto"

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise InputError(
                "Parameter `path` of a model should be a folder or a name on the hub. Found an "
                "empty text; give one such as HuggingFaceTB/SmolLM2-135M-Instruct."
            )
        for pattern in self.trainable or []:
            check_pattern("model.student.trainable", pattern)
        if self.trainable == []:
            raise InputError(
                "Parameter `model.student.trainable` should list patterns of what is trained. "
                "Found none; set null to train all weights."
            )
        if self.noise is not None and (self.lora is not None or self.trainable is not None):
            other = "lora" if self.lora is not None else "trainable"
            raise InputError(
                "Parameter `model.student.noise` damages all weights, so all should be trained. "
                f"Found `model.student.{other}` set as well; take one of the two out."
            )


def load_base(
    source: ModelSource, dtype: DType | torch.dtype | None = None, *, sliced: bool = False
) -> PreTrainedModel:
    """Load the start model, without adapters, in evaluation mode, possibly in another dtype.

    ``sliced`` leaves the weights in their files where possible. `Sharding.apply` later lets each
    process read its slices; nothing may read or change the weights before.

    Raises:
        InputError: The model cannot be found or read; the message says what to do.
    """
    wanted = dtype if isinstance(dtype, torch.dtype) else resolve_dtype(dtype or source.dtype)
    found = find_model(source.path, source.revision)
    model: Any = None
    if found.name == TINY_NAME:
        tiny: Any = tiny_model(source.seed)
        model = tiny.to(wanted)
    elif sliced and found.adapters is None:
        model = without_weights(found.name, found.options, wanted, source.attention)
    if model is None:
        model = _whole(source, wanted)
    if found.adapters is not None:
        model = merge_folder(model, found.adapters)
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"Parameter `model.student.path` = {source.path!r} gave a {type(model)}.")
    model.eval()
    return model


def _whole(source: ModelSource, dtype: torch.dtype) -> Any:
    """Load a model with all its weights.

    Raises:
        InputError: It cannot be read, weights are missing, or it is adapters on the hub.
    """
    model, report = with_attention(
        lambda attention: _pretrained(
            AutoModelForCausalLM,
            source,
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
        ),
        source.attention,
    )
    missing = sorted(report["missing_keys"])
    if missing:  # transformers filled them with random numbers
        raise InputError(
            f"Parameter `model.student.path` = {source.path!r} should name a model with all "
            f"its weights. Found {len(missing)} missing from its files, such as {missing[0]}; "
            "copy or export the model again."
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise InputError(
            f"Parameter `model.student.path` = {source.path!r} names adapters on the hub. Download "
            "them into a folder, and give the folder: they are then merged into their model."
        )
    return model


def empty_student(config: Any, source: ModelSource) -> nn.Module:
    """Return the model of `load_student`, with adapters, but without weights (meta device)."""
    with torch.device("meta"):
        model = with_attention(
            lambda a: AutoModelForCausalLM.from_config(config, attn_implementation=a),
            source.attention,
        )
        made: nn.Module = model if source.lora is None else with_adapters(model, source)
    return made


def load_student(source: ModelSource, *, sliced: bool = False) -> nn.Module:
    """Load the model to train, with noise and adapters if set, in training mode.

    For ``sliced`` see `load_base`; with noise, all weights are read.

    Raises:
        InputError: The model cannot be loaded, or `lora` is set and peft is missing.
    """
    model = load_base(source, sliced=sliced and source.noise is None)
    if source.noise is not None:
        if sliced:
            log.warning("Each process reads all weights of %s: they get noise", source.path)
        add_noise(model, source.noise)
    student: nn.Module = model if source.lora is None else with_adapters(model, source)
    if source.lora is not None and unties_weights(model):
        log.warning("Adapters on a tied embedding or head: an export will store the two apart.")
    if source.activation_checkpointing:
        recompute_activations(model)
        # only re-entrant checkpointing needs it; here it would hide a loss without gradient
        model.disable_input_require_grads()
    if source.trainable is not None:
        train_only(student, source.trainable)
    if source.compile:
        compile_blocks(student)
    return student.train()


def recompute_activations(model: Any) -> None:
    """Let a model of transformers compute its activations again in the backward pass."""
    named = "activation_checkpointing_enable"  # since 5.23; version 6 drops the other name
    enable = getattr(model, named, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def train_only(model: nn.Module, patterns: list[str]) -> None:
    """Freeze every parameter whose name matches none of the regular expressions."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise InputError(
                "Parameter `model.student.trainable` should list patterns that are found in names "
                f"of parameters. Found {pattern!r}, which fits none; names look like {names[-2]}."
            )
    for name, parameter in model.named_parameters():
        chosen = any(re.search(pattern, name) for pattern in patterns)
        parameter.requires_grad_(parameter.requires_grad and chosen)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer; of several named chat templates it uses `default`."""
    if source.path == TINY_NAME:
        return tiny_tokenizer()
    tokenizer = _pretrained(AutoTokenizer, source)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(f"Parameter `model.student.path` = {source.path!r} gave no tokenizer.")
    chosen: PreTrainedTokenizerBase = choose_template(tokenizer, source.path)
    return chosen


def load_model(
    path: str, *, revision: str | None = None, dtype: DType = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode, and its tokenizer.

    Args:
        path: Hub id, local folder, .gguf file, or `random-tiny`; after `lit-unlearn fetch` of a
            model no network is needed.
        revision: Branch, tag or commit on the hub.
        dtype: dtype of the weights.
        device: Name of a torch device.

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


def with_adapters(model: PreTrainedModel, source: ModelSource) -> nn.Module:
    """Add low-rank adapters to a model, and freeze everything else; see `adapted`."""
    return adapted(model, source.lora or LoRA(), source.seed)


def _pretrained(loader: Any, source: ModelSource, **options: Any) -> Any:
    """Call ``from_pretrained`` for the model, and turn every error into an `InputError`."""
    found = find_model(source.path, source.revision)
    name, place = found.name, found.options
    if loader is AutoTokenizer and found.adapters and any(found.adapters.glob("tokenizer*")):
        name, place = str(found.adapters), {}
    try:
        return loader.from_pretrained(name, trust_remote_code=False, **place, **options)
    except Exception as error:  # damaged files raise errors of every kind
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "scaled_dot_product_attention" in text:
            raise  # `with_attention` tries again with eager
        hint = "; set `model.student.attention`" if "attention" in text.lower() else ""
        text = next((cause for part, cause in _CAUSES.items() if part in text), text)
        raise InputError(
            f"Parameter `model.student.path` = {source.path!r} should name a folder with a causal "
            f"language model and its tokenizer, a .gguf file, or a hub id. Found: {text}{hint}"
        ) from error
