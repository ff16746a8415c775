"""Latent adversarial training: forget also under an adversarial change of hidden states."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives.objective import LogitObjective, Reader, Terms, WrappingObjective
from lit_unlearn.types import TokenBatch, Tokens

__all__ = ["LatentAdversarial", "Steered", "ascend"]


@runtime_checkable
class Steered(Protocol):
    """A reader that can change the output of one of the model's decoder blocks."""

    def steered_logits(
        self, tokens: Tokens, depth: float, change: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return ``[N, V]`` logits with ``change`` applied to the block's output ``[B, T, d]``."""


def ascend(shift: Tensor, gradient: Tensor, step: Tensor, radius: Tensor) -> Tensor:
    """Take one step of projected gradient ascent, position by position (``[B, T, d]``).

    The result is ``shift + step g / |g|``, projected into the ball of that radius around 0 (Madry
    et al. 2018, arXiv 1706.06083, with the 2-norm). Where the gradient is 0 nothing moves. ``step``
    and ``radius`` are ``[B, T, 1]``.
    """
    tiny = torch.finfo(shift.dtype).tiny
    steepness: Tensor = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    moved = shift + step * gradient / steepness.clamp(min=tiny)
    length: Tensor = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
    return moved * (radius / length.clamp(min=tiny)).clamp(max=1)


@dataclass(kw_only=True)
class LatentAdversarial(WrappingObjective):
    """Train any logit objective under the worst small change of the prompt's hidden states.

    The student minimises the maximum over a change of one decoder block's output, at the prompt's
    positions up to the one that predicts the first answer token. The change starts at 0 and takes
    `steps` ascent steps on the inner objective's own loss. The teacher is read once, unchanged.
    Logs `clean`, the inner loss without a change. Unit: that of the inner objective.

    Formula: max over |delta_t| <= radius |h_t| of the inner loss, h_t the block's output.
    Source: Sheshadri et al. 2024 (LAT), arXiv 2407.15549; the radius relative to |h_t| is ours.
    Needs: as the inner objective, hidden states.
    Cost: student 1 + steps, teacher as the inner objective.

    Args:
        objective: Objective that is trained under the change, such as NPO.
        depth: Relative depth of the decoder block whose output is changed; 0.25 is block 8 of 32.
        radius: Longest change at a position, as a share of its hidden state's norm.
        steps: Ascent steps; each costs a forward and a backward pass. One step is
            2.5 radius / steps long.
    """

    logs = "clean"
    objective: LogitObjective = field(kw_only=False)
    depth: float = ranged(0.25, 0, 1, above=True)
    radius: float = ranged(0.1, 0, above=True)
    steps: int = ranged(4, 1)

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        if not isinstance(student, Steered):
            raise InputError(
                "Objective LatentAdversarial needs a student whose hidden states can be changed. "
                f"Found a {type(student).__name__}; read it with `models.hidden.ModelReader`."
            )
        batch = self.limit(batch)
        teacher_logits = self.teacher_logits(batch.teacher, teacher)
        change = _Change(_prompt_mask(batch), self.radius, 2.5 * self.radius / self.steps)

        def inner() -> Terms:
            logits = student.steered_logits(batch.student, self.depth, change)
            return self.objective.terms(logits, teacher_logits, batch)

        terms = inner()
        clean = terms.values.detach()
        # validation has no gradients, and reads the clean loss
        for _ in range(self.steps if torch.is_grad_enabled() else 0):
            change.update(terms.values)
            terms = inner()
        return Terms(terms.values, terms.rows, {**terms.statistics, "clean": clean})


class _Change:
    """The change of the hidden states at the prompt's positions; 0 before the first update."""

    def __init__(self, mask: Tensor, radius: float, step: float) -> None:
        self.mask, self.radius, self.step = mask, radius, step
        self.shift: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        if self.shift is None:
            self.shift = torch.zeros_like(hidden, dtype=torch.float32, requires_grad=True)
            self.length = hidden.detach().float().norm(dim=-1, keepdim=True)
        return hidden + (self.mask * self.shift).to(hidden.dtype)

    def update(self, values: Tensor) -> None:
        """Take an ascent step on a loss that was computed with the present change."""
        if self.shift is None:
            raise ValueError("The change should take part in a forward pass before its update.")
        (gradient,) = torch.autograd.grad(values.sum(), self.shift)
        shift, length = self.shift.detach(), self.length
        shift = ascend(shift, gradient, self.step * length, self.radius * length)
        self.shift = shift.requires_grad_()


def _prompt_mask(batch: TokenBatch) -> Tensor:
    """Return ``[B, T, 1]``: 1 up to the position that predicts each row's first answer token."""
    tokens = batch.student
    first = batch.offsets == 0
    last = torch.zeros_like(tokens.input_ids[:, 0]).scatter(
        0, tokens.rows[first], tokens.columns[first]
    )
    positions = torch.arange(tokens.input_ids.shape[1], device=last.device)
    return (positions[None, :] <= last[:, None]).float()[:, :, None]
