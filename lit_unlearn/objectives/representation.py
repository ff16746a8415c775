"""Losses on hidden states at the positions that predict the answer.

Shapes: ``N`` predictions, ``D`` depths, ``d`` hidden size. One value per prediction, ``[N]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives.objective import Objective, Reader, Terms
from lit_unlearn.types import TokenBatch, Tokens

__all__ = ["RMU", "AdaptiveRMU", "Distance", "HiddenObjective", "HiddenRetain", "HiddenStates"]
__all__ += ["RepresentationRerouting"]
__all__ += ["control_vector", "matching", "misdirection", "rerouting"]

Distance = Literal["squared", "norm"]


@runtime_checkable
class HiddenStates(Protocol):
    """A reader of a model's hidden states at the positions that predict the answers."""

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """Return ``[D, N, d]`` float32 outputs of the decoder blocks at relative depths in (0, 1].

        Without ``depths``, of all blocks.
        """


def control_vector(size: int, seed: int) -> Tensor:
    """Return ``[d]``: a fixed direction of norm 1, its entries uniform in [0, 1) before scaling.

    Li et al. 2024, arXiv 2403.03218, Section 4. The same on every device and in every process.
    """
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.rand(size, generator=generator), dim=0)


def misdirection(hidden: Tensor, direction: Tensor, length: float | Tensor) -> Tensor:
    """Return ``[N]``: ``mean_j (h_j - length u_j)^2``; the length may be ``[N, 1]``."""
    return ((hidden - length * direction) ** 2).mean(-1)


def rerouting(hidden: Tensor, reference: Tensor) -> Tensor:
    """Return ``[N]``, 0 to 1: ``relu(cos(h, h_ref))`` of ``[D, N, d]`` each, mean over D."""
    return functional.cosine_similarity(hidden, reference, dim=-1).relu().mean(0)


def matching(hidden: Tensor, reference: Tensor, distance: Distance = "squared") -> Tensor:
    """Return ``[N]``: the distance of hidden states ``[D, N, d]``, mean over the depths.

    ``squared`` is the mean of squared differences over the d entries, ``norm`` the 2-norm.
    """
    gap = hidden - reference
    if distance == "squared":
        return (gap**2).mean(-1).mean(0)
    lengths: Tensor = torch.linalg.vector_norm(gap, dim=-1)
    return lengths.mean(0)


@dataclass(kw_only=True)
class HiddenObjective(Objective):
    """An objective that compares hidden states position by position.

    Args:
        depths: Relative depths in (0, 1] of the decoder blocks whose outputs are read; null for all
            blocks.
    """

    depths: list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        depths = [1.0] if self.depths is None else self.depths
        if not depths or not all(0 < depth <= 1 for depth in depths):
            raise InputError(
                f"Depths of {type(self).__name__} should lie above 0 and be at most 1, the last "
                f"decoder block. Found {depths}; divide a block's number by the number of blocks."
            )

    def teacher_inputs(self, batch: TokenBatch) -> list[Tokens]:
        return []  # a cache of the teacher holds logits alone

    def hidden(self, reader: Reader, tokens: Tokens) -> Tensor:
        """Return ``[D, N, d]`` hidden states at the depths."""
        if not isinstance(reader, HiddenStates):
            raise InputError(
                f"Objective {type(self).__name__} needs hidden states. Found a "
                f"{type(reader).__name__}, which gives logits alone; use a teacher that holds a "
                "model, such as FrozenTeacher."
            )
        return reader.hidden(tokens, self.depths)

    def reference(self, batch: TokenBatch, teacher: Reader | None) -> Tensor:
        """Return the teacher's ``[D, N, d]`` hidden states without gradient."""
        return self.hidden(self.require(teacher), batch.teacher).detach()


@dataclass(kw_only=True)
class _Misdirection(HiddenObjective):
    """An objective that pushes the hidden states of one block to one random direction.

    Args:
        depth: Relative depth of the decoder block whose output is read; 0.25 is block 8 of 32.
        seed: Seed of the direction.
    """

    depths: list[float] | None = field(init=False)
    depth: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        self.depths = [self.depth]
        super().__post_init__()

    def distance(self, hidden: Tensor, length: float | Tensor) -> Tensor:
        """Return ``[N]``: the `misdirection` of hidden states ``[N, d]``."""
        direction = control_vector(hidden.shape[-1], self.seed).to(hidden)
        return misdirection(hidden, direction, length)


@dataclass(kw_only=True)
class RMU(_Misdirection):
    """Representation misdirection: push hidden states to one random direction.

    Use it beside HiddenRetain at the same depth, and train only weights at or below that depth
    (published: the down projections of three blocks). It reads the positions that predict the
    answer; the published code reads every token of a passage. Logs `norm`, the 2-norm of the hidden
    states. Unit: squared hidden-state units, mean over the hidden size.

    Formula: mean_j (h_j - c u_j)^2, per token, with u a random unit vector.
    Source: Li et al. 2024, arXiv 2403.03218, Section 4.
    Needs: hidden states.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update; published: 1 beside a retain loss
            of weight 1200.
        coefficient: c, the target length of the hidden states, which should be several times their
            present norm; published: 6.5 for a model of 7 billion parameters.
    """

    statistics = ("norm",)
    coefficient: float = ranged(6.5, 0, above=True)

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self.hidden(student, batch.student)[0]
        values = self.distance(hidden, self.coefficient)
        return Terms(values, batch.student.rows, {"norm": hidden.detach().norm(dim=-1)})


@dataclass(kw_only=True)
class AdaptiveRMU(_Misdirection):
    """RMU whose length follows the teacher's hidden states, so that it suits every depth and model.

    The length is set position by position; the published code takes the mean of its first batch.
    Unit: squared hidden-state units, mean over the hidden size.

    Formula: mean_j (h_j - s |h_ref| u_j)^2, per token, with u a random unit vector.
    Source: Dang et al. 2024, arXiv 2408.06223.
    Needs: teacher, hidden states.
    Cost: student 1, teacher 1.

    Args:
        scale: s, the target length of the hidden states in units of the teacher's.
    """

    needs_teacher = True
    scale: float = ranged(5.0, 0, above=True)

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self.hidden(student, batch.student)[0]
        length = self.scale * self.reference(batch, teacher)[0].norm(dim=-1, keepdim=True)
        return Terms(self.distance(hidden, length), batch.student.rows)


@dataclass(kw_only=True)
class RepresentationRerouting(HiddenObjective):
    """Circuit breaking: turn hidden states away from the direction of the teacher's.

    Use it beside HiddenRetain with `distance: norm` on all blocks; published: its weight falls
    from 10 (`LinearDecay`, 300 steps) while that of the retain loss rises from 0 (`LinearWarmup`,
    300 steps), over 150 steps of LoRA training. Unit: none, 0 to 1.

    Formula: relu(cos(h, h_ref)), mean over the depths, per token.
    Source: Zou et al. 2024, arXiv 2406.04313.
    Needs: teacher, hidden states.
    Cost: student 1, teacher 1.

    Args:
        depths: Relative depths of the decoder blocks whose outputs are read; null for blocks 10
            and 20 of 32.
    """

    needs_teacher = True

    def __post_init__(self) -> None:
        self.depths = self.depths or [10 / 32, 20 / 32]
        super().__post_init__()

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self.hidden(student, batch.student)
        return Terms(rerouting(hidden, self.reference(batch, teacher)), batch.student.rows)


@dataclass(kw_only=True)
class HiddenRetain(HiddenObjective):
    """Keep hidden states as the teacher has them: the retain part of RMU and circuit breaking.

    Unit: squared hidden-state units, mean over the hidden size, or hidden-state units (`norm`).

    Formula: mean_j (h_j - h_ref_j)^2, or |h - h_ref|, mean over the depths, per token.
    Source: Li et al. 2024, arXiv 2403.03218, Section 4; the norm: Zou et al. 2024, arXiv
        2406.04313.
    Needs: teacher, hidden states.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update; published: 1200 beside RMU.
        distance: `squared` (RMU) or `norm` (circuit breaking).
    """

    needs_teacher = True
    distance: Distance = "squared"

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self.hidden(student, batch.student)
        values = matching(hidden, self.reference(batch, teacher), self.distance)
        return Terms(values, batch.student.rows)
