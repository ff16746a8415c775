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
from torch import Tensor, nn

from lit_unlearn.attacks.copies import HeldTrunk, sharing_copy, upper_parameters
from lit_unlearn.data.collation import collate
from lit_unlearn.data.mixing import StepPlan
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import LoRA, ModelSource, with_adapters
from lit_unlearn.models.trunk import trunk_height
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
        upper_blocks: Number of last decoder blocks that are trained, with the final norm; null
            trains all weights. The blocks below are read once per row, which makes steps cheaper.
    """

    learning_rate: float = 5e-5
    batch_size: int = 4
    lora: LoRA | None = None
    seed: int = 0
    upper_blocks: int | None = None

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, 0)
        check_number("batch_size", self.batch_size, 1)
        check_number("upper_blocks", self.upper_blocks, 1)
        if self.lora is not None and self.upper_blocks is not None:
            raise InputError(
                "Parameters `lora` and `upper_blocks` of the fine-tuning exclude each other. Found "
                "both; set one of them to null."
            )


class Relearning:
    """A copy of a model that is fine-tuned on some rows, step by step.

    The state after a step depends only on the model, the rows, the settings and the step: for a
    later step fine-tuning continues, for an earlier one it restarts. Without adapters the copy is
    in float32, since bfloat16 rounds small updates away. The model itself is unchanged; the loss is
    the mean cross-entropy of a batch's answer tokens.

    Args:
        model: The model; weights that are not trained are shared with the copy.
        rows: Rows to fine-tune on.
        settings: Settings of the fine-tuning.
        trunk: Outputs of the blocks below the trained ones, by sequence, which fine-tunings of the
            same blocks may share; None for none yet.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: Sequence[EncodedExample],
        settings: FineTuning,
        trunk: dict[tuple[int, ...], Tensor] | None = None,
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
        self._known = {} if trunk is None else trunk
        self._copy: Any = None
        self._optimizer: Any = None
        self._trunk: HeldTrunk | None = None

    def at(self, step: int) -> nn.Module:
        """Return the copy after ``step`` steps, in evaluation mode; the next call may change it."""
        check_number("steps", step, 0)
        if self._copy is None or step < self._step:
            self.release()  # makes room for the next copy
            self._copy = _trainable_copy(self._subject, self._settings)
            trained = [p for p in self._copy.parameters() if p.requires_grad]
            rate = self._settings.learning_rate
            self._optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
            height = trunk_height(self._copy)[0] if self._settings.upper_blocks else 0
            self._trunk = HeldTrunk(self._copy, height, self._known) if height else None
            self._step = 0
        with torch.enable_grad():
            while self._step < step:
                self._train(self._copy, self._optimizer)
                self._step += 1
        found: nn.Module = self._copy
        return found

    def release(self) -> None:
        """Free the copy; the next call of `at` creates another one."""
        self._copy = self._optimizer = self._trunk = None

    def _train(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        draws = self._plan.step(self._step)[_STREAM]
        batch = collate([[self._rows[draw.index]] for draw in draws], 0)
        batch = batch.to(next(model.parameters()).device)
        if batch.target_ids is None:
            raise InputError(
                "Parameter `rows` should have answers to relearn. Found a row without; use another "
                "source."
            )
        logits = answer_logits(model, batch.student, trunk=self._trunk)
        cross_entropy(logits, batch.target_ids).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _trainable_copy(model: nn.Module, settings: FineTuning) -> nn.Module:
    if settings.lora is not None:
        source = ModelSource("in memory", lora=settings.lora, seed=settings.seed)
        return with_adapters(cast("Any", copy.deepcopy(model)), source).eval()
    count = settings.upper_blocks
    trained = [*model.parameters()] if count is None else upper_parameters(model, count)
    duplicate = sharing_copy(model, trained).eval().float().requires_grad_(count is None)
    for parameter in [] if count is None else upper_parameters(duplicate, count):
        parameter.requires_grad_(True)
    return duplicate
