"""Low-rank adapters: their settings, and a model with them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from lit_unlearn.distributed.slices import standing_in
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.lora_targets import check_targets

__all__ = ["LoRA", "adapted"]


@dataclass
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) instead of full fine-tuning.

    Args:
        rank: Rank r of each adapter.
        alpha: Numerator of the factor alpha / rank of the adapter's output.
        dropout: Dropout probability in front of each adapter.
        target_modules: Names of the linear layers that get an adapter; null for peft's choice for
            the architecture, `all-linear` for every linear layer but the head.
        modules_to_save: Names of layers that are trained whole beside the adapters, such as
            `embed_tokens`; null for none.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: list[str] | str | None = "all-linear"
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        check_number("model.student.lora.rank", self.rank, 1, repair="set null for no adapters")
        check_number("model.student.lora.alpha", self.alpha, 0, above=True)
        check_number("model.student.lora.dropout", self.dropout, 0, 1)


def adapted(model: PreTrainedModel, lora: LoRA, seed: int) -> nn.Module:
    """Add low-rank adapters to a model, and freeze everything else.

    Args:
        model: A causal language model, possibly on the meta device.
        lora: Settings of the adapters.
        seed: Seed of their weights.

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
        with standing_in(model), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            try:
                made: nn.Module = get_peft_model(model, config)
            except ValueError as error:
                raise InputError(
                    "Parameter `model.student.lora.target_modules` should name modules that peft "
                    f"can adapt. Found {lora.target_modules}: {' '.join(str(error).split())}"
                ) from error
    return made
