"""Relearning as an attack: a few steps of fine-tuning.

Unlearned models recover after 15 steps on some 60 forget rows (Fan et al. 2025, arXiv 2502.05374),
and after fine-tuning on unrelated text too (Łucki et al. 2024, arXiv 2409.18025). Facts that return
although they are not in the fine-tuning rows were hidden, not removed.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from lit_unlearn.data.collation import collate
from lit_unlearn.data.mixing import StepPlan
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import LoRA, ModelSource, with_adapters
from lit_unlearn.objectives.losses import cross_entropy
from lit_unlearn.types import EncodedExample

__all__ = ["FineTuning", "Relearning"]

_STREAM = "relearn"


@dataclass
class FineTuning:
    """Settings of fine-tuning: AdamW at a constant rate, without weight decay and dropout.

    Args:
        learning_rate: Constant learning rate. Published: 1e-5 for all weights of 7B models, 2e-4
            with adapters; small models take more.
        batch_size: Rows per step. Published: 1 to 20.
        lora: Train low-rank adapters and keep the rest frozen; null trains all weights.
        seed: Seed of the order of the rows, and of new adapters.
    """

    learning_rate: float = 5e-5
    batch_size: int = 4
    lora: LoRA | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, 0)
        check_number("batch_size", self.batch_size, 1)


class Relearning:
    """A copy of a model that is fine-tuned on some rows, step by step.

    The state after a step depends only on the model, the rows, the settings and the step: for a
    later step fine-tuning continues, for an earlier one it restarts. If all weights are trained,
    the copy is in float32, since bfloat16 rounds small updates away. The model itself is unchanged;
    the loss is the mean cross-entropy of a batch's answer tokens.
    """

    def __init__(
        self, model: nn.Module, rows: Sequence[EncodedExample], settings: FineTuning
    ) -> None:
        if not rows:
            raise InputError(
                "Parameter `rows` should have at least one row to relearn from. Found none; add "
                "sources, or raise `attack_share`."
            )
        self._subject = model
        self._rows = list(rows)
        self._settings = settings
        self._plan = StepPlan({_STREAM: len(rows)}, {_STREAM: settings.batch_size}, settings.seed)
        self._step = 0
        self._copy: Any = None
        self._optimizer: Any = None

    def at(self, step: int) -> nn.Module:
        """Return the copy after ``step`` steps, in evaluation mode; the next call may change it."""
        check_number("steps", step, 0)
        if self._copy is None or step < self._step:
            self.release()  # makes room for the next copy
            self._copy = _trainable_copy(self._subject, self._settings)
            trained = [p for p in self._copy.parameters() if p.requires_grad]
            rate = self._settings.learning_rate
            self._optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
            self._step = 0
        with torch.enable_grad():
            while self._step < step:
                self._train(self._copy, self._optimizer)
                self._step += 1
        found: nn.Module = self._copy
        return found

    def release(self) -> None:
        """Free the copy; the next call of `at` creates another one."""
        self._copy = self._optimizer = None

    def _train(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        draws = self._plan.step(self._step)[_STREAM]
        batch = collate([[self._rows[draw.index]] for draw in draws], 0)
        batch = batch.to(next(model.parameters()).device)
        if batch.target_ids is None:
            raise InputError(
                "Parameter `rows` should have answers to relearn. Found a row without; use another "
                "source."
            )
        cross_entropy(answer_logits(model, batch.student), batch.target_ids).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _trainable_copy(model: nn.Module, settings: FineTuning) -> nn.Module:
    duplicate = copy.deepcopy(model).eval()
    if settings.lora is None:
        return duplicate.float().requires_grad_(True)
    source = ModelSource("", lora=settings.lora, seed=settings.seed)
    return with_adapters(cast("Any", duplicate), source).eval()
