"""BiLD: distillation of the differences between top logits."""

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms
from lit_unlearn.objectives.row_values import present
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch


def top_differences(logits: Tensor, chosen: Tensor) -> Tensor:
    """Differences of the chosen logits, each with all that come after it.

    Args:
        logits: ``[N, V]``.
        chosen: ``[N, K]``, int64: token ids, the highest first.

    Returns:
        ``[N, K (K - 1) / 2]``.
    """
    values = logits.gather(-1, chosen)
    first, second = torch.triu_indices(
        chosen.shape[-1], chosen.shape[-1], offset=1, device=logits.device
    )
    return values[:, first] - values[:, second]


def bild(student_logits: Tensor, teacher_logits: Tensor, top_k: int, temperature: float) -> Tensor:
    """Bidirectional logits difference loss. Li et al. 2024, arXiv 2406.13555.

    ``KL(softmax(d_T / t) || softmax(d_S / t))`` over the differences d of the teacher's top K, plus
    the same over the student's top K. Shifting all logits changes nothing.

    Args:
        student_logits: ``[N, V]``.
        teacher_logits: ``[N, V]``.
        top_k: K, at most V.
        temperature: t.

    Returns:
        ``[N]``, in nats; 0 where both give the same differences.
    """
    top_k = min(top_k, student_logits.shape[-1])
    total = torch.zeros_like(student_logits[:, 0])
    for leader in (teacher_logits, student_logits.detach()):
        chosen = leader.topk(top_k, dim=-1).indices
        total = total + losses.forward_kl(
            top_differences(student_logits, chosen) / temperature,
            top_differences(teacher_logits, chosen) / temperature,
        )
    return total


class BiLD(LogitObjective):
    """Match the teacher in the differences between the teacher's and the student's top logits.

    Where BidirectionalDistillation fixes the level of the logits, this fixes only their order and
    distances. Unit: nats per position.

    Formula: KL(softmax(d_T/t) || softmax(d_S/t)) over the pairwise logit differences d of the
        teacher's top K, plus the same of the student's top K.
    Source: Li et al. 2024, arXiv 2406.13555.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        top_k: K, at least 3: two logits have only one difference, and nothing to compare it with.
        temperature: t, by which the differences are divided.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        top_k: int = 8,
        temperature: float = 3.0,
    ) -> None:
        super().__init__(weight, schedule, positions)
        if top_k < 3 or temperature <= 0:
            raise InputError(
                "Parameters of BiLD: `top_k` should be at least 3 and `temperature` positive. "
                f"Found {top_k} and {temperature}."
            )
        self.top_k, self.temperature = top_k, temperature

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        values = bild(student_logits, present(teacher_logits), self.top_k, self.temperature)
        return Terms(values, batch.student.rows)
