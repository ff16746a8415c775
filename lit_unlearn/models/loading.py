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

from lit_unlearn.distributed.slices import standing_in, without_weights
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.compiling import compile_blocks
from lit_unlearn.models.dtypes import DType, resolve_dtype
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.lora_targets import check_targets
from lit_unlearn.models.tiny import TINY_NAME, tiny_model, tiny_tokenizer

__all__ = [
    "Attention",
    "LoRA",
    "ModelSource",
    "Noise",
    "add_noise",
    "empty_student",
    "load_base",
    "load_student",
    "load_tokenizer",
    "train_only",
    "with_adapters",
]

log = logging.getLogger(__name__)

Attention = Literal["sdpa", "eager", "flash_attention_2"]
"""Attention implementation of transformers."""


@dataclass
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) instead of full fine-tuning.

    Args:
        rank: Rank r of each adapter.
        alpha: Numerator of the factor alpha / rank of the adapter's output.
        dropout: Dropout probability in front of each adapter.
        target_modules: Names of the linear layers that get an adapter; null for peft's choice for
            the architecture, `all-linear` for every linear layer but the head.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: list[str] | str | None = "all-linear"

    def __post_init__(self) -> None:
        check_number("model.student.lora.rank", self.rank, 1, repair="set null for no adapters")
        check_number("model.student.lora.alpha", self.alpha, 0, above=True)
        check_number("model.student.lora.dropout", self.dropout, 0, 1)


@dataclass
class Noise:
    """Damage to the start weights, which distillation then repairs (UNDO).

    Each parameter starts as ``(1 - mix) theta + mix scale N``, N Xavier-uniform for
    matrices and 0 for vectors (norms, biases). Lee et al. 2025, arXiv 2506.06278: suppress the
    knowledge in one run, then distil with ForwardKL on general text into a student with noise,
    both from the suppressed model. Teachers start without it.

    Args:
        mix: Share of the weights that is replaced, in (0, 1]; 0.25 for WMDP in the paper's code.
        scale: Size of the noise in units of a fresh initialisation, at least 0; 0 only shrinks the
            weights, as for WMDP in the paper's code.
        seed: Seed of the noise.
    """

    mix: float = 0.25
    scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.mix <= 1 or self.scale < 0:
            raise InputError(
                "Parameters of `model.student.noise`: `mix` should lie above 0 and be at most 1, "
                f"`scale` be at least 0. Found {self.mix} and {self.scale}; for no noise set "
                "`model.student.noise` to null."
            )


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
        attention: Attention implementation of transformers.
        seed: Seed of new weights (adapters, the random model).
        noise: Damage the weights before training starts; null leaves them as they are. Only where
            all weights are trained.
        compile: Compile the decoder blocks for training (`torch.compile`). Needs a C++ compiler on
            a CPU, Triton on a GPU; the first step takes a minute longer. Results differ by
            rounding.
        cache_trunk: Compute what leaves the blocks below the first trained one once for every
            training sequence, and keep it on disk; training then starts above them. `auto` does so
            where these blocks are constant and draw nothing at random.
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
        if self.noise is not None and (self.lora is not None or self.trainable is not None):
            other = "lora" if self.lora is not None else "trainable"
            raise InputError(
                "Parameter `model.student.noise` damages all weights, so all should be trained. "
                f"Found `model.student.{other}` set as well; take one of the two out."
            )


def load_base(
    source: ModelSource, dtype: DType | torch.dtype | None = None, *, sliced: bool = False
) -> PreTrainedModel:
    """Load the start model, without adapters, in evaluation mode.

    Args:
        source: The model.
        dtype: The dtype instead of the source's own.
        sliced: Leave the weights in their files where possible; `Sharding.apply` lets each process
            read its slices. Until then nothing may read or change them.

    Raises:
        InputError: The model cannot be found or read; the message says what to do.
    """
    wanted = dtype if isinstance(dtype, torch.dtype) else resolve_dtype(dtype or source.dtype)
    model: Any = None
    if source.path == TINY_NAME:
        tiny: Any = tiny_model(source.seed)
        model = tiny.to(wanted)
    elif sliced:
        found = find_model(source.path, source.revision)
        model = without_weights(found.name, found.options, wanted, source.attention)
    if model is None:
        model, report = _pretrained(
            AutoModelForCausalLM,
            source,
            dtype=wanted,
            attn_implementation=source.attention,
            output_loading_info=True,
        )
        missing = sorted(report["missing_keys"])
        if missing:  # transformers has made them up
            raise InputError(
                f"Parameter `model.student.path` = {source.path!r} should name a model with all "
                f"its weights. Found {len(missing)} missing from its files, such as {missing[0]}; "
                "copy or export the model again."
            )
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"Parameter `model.student.path` = {source.path!r} gave a {type(model)}.")
    model.eval()
    return model


def empty_student(config: Any, source: ModelSource) -> nn.Module:
    """Return what `load_student` returns, adapters included, without weights (on the meta device).

    Args:
        config: The model's config in transformers.
        source: The model.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=source.attention)
        made: nn.Module = model if source.lora is None else with_adapters(model, source)
    return made


def load_student(source: ModelSource, *, sliced: bool = False) -> nn.Module:
    """Load the model to train, with noise and adapters if set, in training mode.

    Args:
        source: The model.
        sliced: See `load_base`; with noise, all weights are read.

    Raises:
        InputError: The model cannot be loaded, or `lora` is set and peft is missing.
    """
    model = load_base(source, sliced=sliced and source.noise is None)
    if source.noise is not None:
        if sliced:
            log.warning("Each process reads all weights of %s: they get noise", source.path)
        add_noise(model, source.noise)
    student: nn.Module = model if source.lora is None else with_adapters(model, source)
    if source.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        # only re-entrant checkpointing needs it; here it would hide losses that train nothing
        model.disable_input_require_grads()
    if source.trainable is not None:
        train_only(student, source.trainable)
    if source.compile:
        compile_blocks(student)
    return student.train()


@torch.no_grad()
def add_noise(model: nn.Module, noise: Noise) -> None:
    """Mix noise into all parameters, in place; tied ones once. See `Noise`.

    The noise is sampled on the CPU in float32, one parameter after the other, so that it is the
    same for every dtype and device.
    """
    generator = torch.Generator().manual_seed(noise.seed)
    for parameter in model.parameters():
        parameter.mul_(1 - noise.mix)
        if parameter.dim() > 1:
            sampled = torch.empty(parameter.shape, dtype=torch.float32)
            nn.init.xavier_uniform_(sampled, generator=generator)
            parameter.add_(sampled.to(parameter), alpha=noise.mix * noise.scale)


def train_only(model: nn.Module, patterns: list[str]) -> None:
    """Freeze every parameter whose name matches none of the regular expressions.

    Raises:
        InputError: An expression matches no name.
    """
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
    """Load the model's tokenizer.

    Raises:
        InputError: It cannot be found or read.
    """
    if source.path == TINY_NAME:
        return tiny_tokenizer()
    tokenizer = _pretrained(AutoTokenizer, source)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(f"Parameter `model.student.path` = {source.path!r} gave no tokenizer.")
    return tokenizer


def with_adapters(model: PreTrainedModel, source: ModelSource) -> nn.Module:
    """Add low-rank adapters to a model, and freeze everything else.

    Raises:
        InputError: peft is missing, or cannot adapt the modules that `target_modules` names.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError(
            "Parameter `model.student.lora` is set, which needs the package peft. It is not "
            "installed; run: pip install 'lit-unlearn[lora]'"
        ) from error
    lora = source.lora or LoRA()
    check_targets(model, lora.target_modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=int(lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        with standing_in(model):
            try:
                adapted: nn.Module = get_peft_model(model, config)
            except ValueError as error:
                raise InputError(
                    "Parameter `model.student.lora.target_modules` should name modules that peft "
                    f"can adapt. Found {lora.target_modules}: {' '.join(str(error).split())}"
                ) from error
    return adapted


def _pretrained(loader: Any, source: ModelSource, **options: Any) -> Any:
    """Call ``from_pretrained`` for the model that was found, with one kind of error."""
    found = find_model(source.path, source.revision)
    try:
        return loader.from_pretrained(
            found.name, trust_remote_code=False, **found.options, **options
        )
    except Exception as error:  # damaged files raise errors of every kind
        raise InputError(
            f"Parameter `model.student.path` = {source.path!r} should name a folder with a causal "
            "language model and its tokenizer, a .gguf file, or a hub id. Found: "
            f"{(str(error).strip().splitlines() or [type(error).__name__])[0]}"
        ) from error
