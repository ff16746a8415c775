"""Targets without the answer: made of a model's own logits, or equal for all tokens.

Shapes as in `losses`: ``N`` predictions, ``V`` vocabulary, one value per prediction.
"""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, present
from lit_unlearn.types import TokenBatch

__all__ = ["CEU", "UNDIAL", "Direction", "LogitFlattening", "MaximumEntropy", "Unilogit"]
__all__ += ["at_chance", "divergence_from_uniform", "logit_flatness", "lowered"]
__all__ += ["soft_cross_entropy", "without"]

Direction = Literal["forward", "reverse"]


def soft_cross_entropy(student_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Return ``-sum_v softmax(target)_v log p_v`` in nats; the target carries no gradient.

    Target logits may be -inf.
    """
    target = target_logits.detach().softmax(-1)
    return -(target * student_logits.log_softmax(-1)).sum(-1)


def lowered(logits: Tensor, target_ids: Tensor, beta: float) -> Tensor:
    """Return the logits ``[N, V]`` with ``beta`` taken off each answer token (``[N]``)."""
    drop = torch.full_like(logits[:, :1], -beta)
    return logits.scatter_add(-1, target_ids[:, None], drop)


def without(logits: Tensor, target_ids: Tensor) -> Tensor:
    """Return the logits ``[N, V]`` with -inf for each answer token (``[N]``)."""
    return logits.scatter(-1, target_ids[:, None], -torch.inf)


def at_chance(logits: Tensor, target_ids: Tensor) -> Tensor:
    """Return the logits with the answer token at probability 1 / V; the others keep their ratios.

    The token's logit becomes ``logsumexp(others) - log(V - 1)``. Shapes as in `lowered`.
    """
    others = without(logits, target_ids).logsumexp(-1, keepdim=True)
    return logits.scatter(-1, target_ids[:, None], others - log(logits.shape[-1] - 1))


def divergence_from_uniform(student_logits: Tensor, direction: Direction = "forward") -> Tensor:
    """Return KL(uniform || student) in nats; if ``reverse``, KL(student || uniform).

    The latter is ln V minus the entropy.
    """
    uniform = torch.zeros_like(student_logits)
    if direction == "forward":
        return losses.forward_kl(student_logits, uniform)
    return losses.reverse_kl(student_logits, uniform)


def logit_flatness(student_logits: Tensor) -> Tensor:
    """Return ``(max_v z_v - mean_v z_v)^2``: 0 where all logits are equal, unchanged by a shift."""
    return (student_logits.amax(-1) - student_logits.mean(-1)) ** 2


@dataclass(kw_only=True)
class UNDIAL(LogitObjective):
    """Distil the start model with the answer token's logit lowered: bounded, needs no retain data.

    The start model is the teacher; give the rows no context. Unit: nats per answer token.

    Formula: CE(softmax(z_ref - beta onehot(y)), p), per token.
    Source: Dong et al. 2024, arXiv 2402.10052.
    Needs: answers, teacher.
    Cost: student 1, teacher 1.

    Args:
        beta: Amount by which the logit is lowered; published: 3, 10, 30.
    """

    needs_teacher = True
    needs_answers = True
    beta: float = ranged(10.0, 0)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        target = lowered(present(teacher_logits), self.targets(batch), self.beta)
        return Terms(soft_cross_entropy(logits, target), batch.student.rows)


@dataclass(kw_only=True)
class CEU(LogitObjective):
    """CE-U: towards the student's own distribution with the answer token taken out.

    Unit: nats per answer token.

    Formula: CE(softmax(sg[z] with z_y = -inf), p), per token from the second one on.
    Source: Yang 2025, arXiv 2503.01224.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        skip: Number of first tokens of each answer that are not trained; 1 as published. An answer
            that is no longer than this is not trained at all; 0 trains every token.
    """

    needs_answers = True
    skip: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip < 0 or (self.positions is not None and self.positions <= self.skip):
            raise InputError(
                "Parameter `CEU.skip` should be at least 0 and less than `positions`. Found "
                f"{self.skip}, with `positions` {self.positions}; for the first token alone set "
                "`skip` to 0."
            )

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        keep = batch.offsets >= self.skip
        logits, target_ids = logits[keep], self.targets(batch)[keep]
        values = soft_cross_entropy(logits, without(logits, target_ids))
        return Terms(values, batch.student.rows[keep])


class Unilogit(LogitObjective):
    """Towards the student's own distribution with the answer token at chance.

    Unit: nats per answer token.

    Formula: KL(p || softmax(sg[z] with z_y so that its probability is 1/V)), per token.
    Source: Vasilev et al. 2025, arXiv 2505.06027.
    Needs: answers.
    Cost: student 1, teacher 0.
    """

    needs_answers = True

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        target = at_chance(logits.detach(), self.targets(batch))
        return Terms(losses.reverse_kl(logits, target), batch.student.rows)


@dataclass(kw_only=True)
class MaximumEntropy(LogitObjective):
    """Make every token equally likely wherever an answer token is predicted.

    Unit: nats per answer token.

    Formula: KL(uniform || p), or KL(p || uniform) = ln V - H(p), per token.
    Source: Yuan et al. 2024 (ME), arXiv 2410.08109.
    Needs: nothing.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update; published: 0.1 beside a retain
            loss of weight 1.
        direction: `forward` is KL(uniform || p), as published; `reverse` is ln V minus the entropy.
    """

    direction: Direction = "forward"

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        values = divergence_from_uniform(logits, self.direction)
        return Terms(values, batch.student.rows)


class LogitFlattening(LogitObjective):
    """Flat logits wherever an answer token is predicted: the forget loss of PDU.

    PDU minimises it subject to a bound on the retain loss; `DualAscent` is the rule for that bound.
    Unit: squared logits per position.

    Formula: (max_v z_v - mean_v z_v)^2, per token.
    Source: Entesari et al. 2025 (PDU), arXiv 2506.05314.
    Needs: nothing.
    Cost: student 1, teacher 0.
    """

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        return Terms(logit_flatness(logits), batch.student.rows)
