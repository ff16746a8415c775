"""Losses on hidden states at the positions that predict the answer.

Shapes: ``N`` predictions, ``D`` depths, ``d`` hidden size. One value per prediction, ``[N]``.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.objectives.objective import Objective, Reader, Terms, required
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch, Tokens

Distance = Literal["squared", "norm"]


@runtime_checkable
class HiddenStates(Protocol):
    """Reads a model's hidden states at the places where it must predict."""

    def hidden(self, tokens: Tokens, depths: Sequence[float] | None = None) -> Tensor:
        """``[D, N, d]`` float32 outputs of the decoder blocks at relative depths; None for all."""


def control_vector(size: int, seed: int) -> Tensor:
    """``[d]``: a fixed direction of norm 1, its entries uniform in [0, 1) before scaling.

    Li et al. 2024, arXiv 2403.03218, Section 4. The same on every device and in every process.
    """
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.rand(size, generator=generator), dim=0)


def misdirection(hidden: Tensor, direction: Tensor, length: float | Tensor) -> Tensor:
    """``mean_j (h_j - length u_j)^2``. Arguments ``[N, d]``, ``[d]``, a number or ``[N, 1]``."""
    return ((hidden - length * direction) ** 2).mean(-1)


def rerouting(hidden: Tensor, reference: Tensor) -> Tensor:
    """``relu(cos(h, h_ref))``, mean over the depths: ``[D, N, d]`` each -> ``[N]``, 0 to 1."""
    return functional.cosine_similarity(hidden, reference, dim=-1).relu().mean(0)


def matching(hidden: Tensor, reference: Tensor, distance: Distance = "squared") -> Tensor:
    """Distance of hidden states, mean over the depths: ``[D, N, d]`` each -> ``[N]``.

    Args:
        hidden: The student's.
        reference: The teacher's.
        distance: ``squared`` is the mean of squared differences over the d entries, ``norm`` the
            2-norm of the difference.
    """
    gap = hidden - reference
    if distance == "squared":
        return (gap**2).mean(-1).mean(0)
    lengths: Tensor = torch.linalg.vector_norm(gap, dim=-1)
    return lengths.mean(0)


class HiddenObjective(Objective):
    """An objective that compares hidden states position by position.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        depths: Relative depths in (0, 1] of the decoder blocks whose outputs are read; null for
            all blocks.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        depths: list[float] | None = None,
    ) -> None:
        super().__init__(weight, schedule)
        if depths is not None and (not depths or not all(0 < depth <= 1 for depth in depths)):
            raise InputError(
                f"Depths of {type(self).__name__} should lie above 0 and be at most 1, the last "
                f"decoder block. Found {depths}; divide a block's number by the number of blocks."
            )
        self.depths = depths

    def asks(self, batch: TokenBatch) -> list[Tokens]:
        """See `Objective.asks`: hidden states, which no cache holds, and no logits."""
        return []

    def _hidden(self, reader: Reader, tokens: Tokens) -> Tensor:
        if not isinstance(reader, HiddenStates):
            raise InputError(
                f"Objective {type(self).__name__} needs hidden states. Found a "
                f"{type(reader).__name__}, which gives logits alone; use a teacher that holds a "
                "model, such as FrozenTeacher."
            )
        return reader.hidden(tokens, self.depths)

    def _reference(self, batch: TokenBatch, teacher: Reader | None) -> Tensor:
        return self._hidden(required(teacher, self), batch.teacher).detach()


class RMU(HiddenObjective):
    """Representation misdirection: push hidden states to one random direction.

    Use it beside HiddenRetain at the same depth, and train only what lies at or below it
    (published: the down projections of three blocks). It reads the positions that predict the
    answer, where the published code reads every token of a passage. Logs `norm`, that of the hidden
    states. Unit: squared hidden-state units, mean over the hidden size.

    Formula: mean_j (h_j - c u_j)^2, per token, with u a random unit vector.
    Source: Li et al. 2024, arXiv 2403.03218, Section 4.
    Needs: hidden states.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update; published: 1 beside a retain loss
            of weight 1200.
        schedule: How the weight changes over the steps; None keeps it constant.
        depth: Relative depth of the decoder block whose output is read; 0.25 is block 8 of 32.
        coefficient: c, the length to which hidden states are driven; published: 6.5 for a model of
            7 billion parameters. It should be several times the norm that they have.
        seed: Seed of the direction.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        depth: float = 0.25,
        coefficient: float = 6.5,
        seed: int = 0,
    ) -> None:
        super().__init__(weight, schedule, [depth])
        check_number("coefficient", coefficient, 0, above=True)
        self.coefficient, self.seed = coefficient, seed

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self._hidden(student, batch.student)[0]
        direction = control_vector(hidden.shape[-1], self.seed).to(hidden)
        values = misdirection(hidden, direction, self.coefficient)
        return Terms(values, batch.student.rows, {"norm": hidden.detach().norm(dim=-1)})


class AdaptiveRMU(HiddenObjective):
    """RMU whose length follows the teacher's hidden states, so that it suits every depth and model.

    The length is set position by position; the published code takes the mean of its first batch.
    Unit: squared hidden-state units, mean over the hidden size.

    Formula: mean_j (h_j - s |h_ref| u_j)^2, per token, with u a random unit vector.
    Source: Dang et al. 2024, arXiv 2408.06223.
    Needs: teacher, hidden states.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        depth: Relative depth of the decoder block whose output is read; 0.25 is block 8 of 32.
        scale: s, how many times longer than the teacher's the hidden states shall be.
        seed: Seed of the direction.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        depth: float = 0.25,
        scale: float = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__(weight, schedule, [depth])
        check_number("scale", scale, 0, above=True)
        self.scale, self.seed = scale, seed

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self._hidden(student, batch.student)[0]
        length = self.scale * self._reference(batch, teacher)[0].norm(dim=-1, keepdim=True)
        direction = control_vector(hidden.shape[-1], self.seed).to(hidden)
        return Terms(misdirection(hidden, direction, length), batch.student.rows)


class RepresentationRerouting(HiddenObjective):
    """Circuit breaking: turn hidden states away from where the teacher's point.

    Use it beside HiddenRetain with `distance: norm` on all blocks; published: its weight falls
    from 10 (`LinearDecay`, 300 steps) while that of the retain loss rises from 0 (`LinearWarmup`,
    300 steps), over 150 steps of LoRA training. Unit: none, 0 to 1.

    Formula: relu(cos(h, h_ref)), mean over the depths, per token.
    Source: Zou et al. 2024, arXiv 2406.04313.
    Needs: teacher, hidden states.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        depths: Relative depths of the decoder blocks whose outputs are read; null for blocks 10
            and 20 of 32.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        depths: list[float] | None = None,
    ) -> None:
        super().__init__(weight, schedule, depths or [10 / 32, 20 / 32])

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self._hidden(student, batch.student)
        return Terms(rerouting(hidden, self._reference(batch, teacher)), batch.student.rows)


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
        schedule: How the weight changes over the steps; None keeps it constant.
        depths: Relative depths of the decoder blocks whose outputs are read; null for all blocks.
        distance: `squared` (RMU) or `norm` (circuit breaking).
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        depths: list[float] | None = None,
        distance: Distance = "squared",
    ) -> None:
        super().__init__(weight, schedule, depths)
        self.distance: Distance = distance

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        hidden = self._hidden(student, batch.student)
        values = matching(hidden, self._reference(batch, teacher), self.distance)
        return Terms(values, batch.student.rows)
