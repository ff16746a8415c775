"""Low-rank adapters: settings, a check of the adapted modules, and adding them to a model."""

import re
import warnings
from dataclasses import dataclass
from textwrap import shorten

import torch
from torch import nn
from transformers import PreTrainedModel

from lit_unlearn.distributed.slices import placeholder_weights
from lit_unlearn.errors import InputError, check_fields, check_pattern, did_you_mean, ranged

__all__ = ["LoRA", "adapted", "check_targets"]


@dataclass
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) instead of full fine-tuning.

    Args:
        rank: Rank r of each adapter.
        alpha: Numerator of the factor alpha / rank of the adapter's output.
        dropout: Dropout probability of the input of each adapter.
        target_modules: Names of the linear layers that get an adapter; null for peft's choice for
            the architecture, `all-linear` for every linear layer but the head.
        modules_to_save: Names of layers that are trained in full besides the adapters, such as
            `embed_tokens`; null for none.
    """

    rank: int = ranged(16, 1, repair="set null for no adapters")
    alpha: float = ranged(32.0, 0, above=True)
    dropout: float = ranged(0.0, 0, 1)
    target_modules: list[str] | str | None = "all-linear"
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "model.student.lora.")
        if isinstance(self.target_modules, str):
            check_pattern("model.student.lora.target_modules", self.target_modules)


def adapted(model: PreTrainedModel, lora: LoRA, seed: int) -> nn.Module:
    """Add low-rank adapters to a model, possibly on the meta device, and freeze everything else.

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
    check_targets(model, lora.target_modules)
    check_targets(model, lora.modules_to_save, "modules_to_save")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # peft divides it by the rank
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        modules_to_save=lora.modules_to_save,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with placeholder_weights(model), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            try:
                made: nn.Module = get_peft_model(model, config)
            except ValueError as error:
                raise InputError(
                    "Parameter `model.student.lora.target_modules` should name modules that peft "
                    f"can adapt. Found {lora.target_modules}: {shorten(str(error), 200)}"
                ) from error
    return made


def check_targets(
    model: nn.Module, wanted: list[str] | str | None, option: str = "target_modules"
) -> None:
    """Check that a model has the modules that an option of `model.student.lora` names.

    ``wanted`` is the option's value: names, a regular expression, `all-linear`, or None for peft's
    choice.
    """
    modules = [name for name, _ in model.named_modules()]
    if wanted is None or wanted == "all-linear":
        return
    if isinstance(wanted, str):
        unknown = [] if any(re.fullmatch(wanted, name) for name in modules) else [wanted]
    else:
        unknown = [w for w in wanted if not any(f".{m}".endswith(f".{w}") for m in modules)]
    if unknown:
        linear = {n for n, part in model.named_modules() if isinstance(part, nn.Linear)}
        known = sorted({name.rpartition(".")[2] for name in linear})
        hint = did_you_mean(unknown[0], known)
        raise InputError(
            f"Parameter `model.student.lora.{option}` should name modules of the model. Found "
            f"{unknown[0]!r}, which fits none{'; ' * bool(hint)}{hint or '.'} Its linear layers "
            f"are {', '.join(known)}."
        )
