"""BiLD: distillation of the differences between top logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_unlearn.errors import ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, present
from lit_unlearn.types import TokenBatch

__all__ = ["BiLD", "bild", "top_differences"]


def top_differences(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the difference of each chosen logit and every later one, ``[N, K (K - 1) / 2]``.

    ``chosen`` are ``[N, K]`` token ids, the highest first.
    """
    values = logits.gather(-1, chosen)
    first, second = torch.triu_indices(
        chosen.shape[-1], chosen.shape[-1], offset=1, device=logits.device
    )
    return values[:, first] - values[:, second]


def bild(student_logits: Tensor, teacher_logits: Tensor, top_k: int, temperature: float) -> Tensor:
    """Return the bidirectional logits difference loss. Li et al. 2024, arXiv 2406.13555.

    ``KL(softmax(d_T / t) || softmax(d_S / t))`` in nats, over the differences d of the teacher's
    top K, plus the same over the student's top K. A shift of all logits changes nothing.
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


@dataclass(kw_only=True)
class BiLD(LogitObjective):
    """Match the teacher in the differences between the teacher's and the student's top logits.

    BidirectionalDistillation fixes the level of the logits, this loss only their order and
    distances. Unit: nats per position.

    Formula: KL(softmax(d_T/t) || softmax(d_S/t)) over the pairwise logit differences d of the
        teacher's top K, plus the same of the student's top K.
    Source: Li et al. 2024, arXiv 2406.13555.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        top_k: K, at least 3: two logits have only one difference, and nothing to compare it with.
        temperature: t, by which the differences are divided.
    """

    needs_teacher = True
    top_k: int = ranged(8, 3)
    temperature: float = ranged(3.0, 0, above=True)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        values = bild(logits, present(teacher_logits), self.top_k, self.temperature)
        return Terms(values, batch.student.rows)
