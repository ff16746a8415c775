"""Objectives on the likelihood of given answers: cross-entropy, and gradient ascent with variants.

The weighted variants of ascent return ``w * log p`` for each answer token, with a weight that
carries no gradient: a descent step makes the token less likely, in proportion to the weight.
Shapes as in `losses`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_unlearn.errors import ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, present
from lit_unlearn.types import TokenBatch

__all__ = ["BST", "TNPO", "WGA", "CrossEntropy", "GradientAscent", "SatImp"]
__all__ += ["confidence_weights", "gradient_ascent", "preference_weights", "saturation_weights"]
__all__ += ["soft_belief"]


def gradient_ascent(nll: Tensor, nll_limit: float | None = None) -> Tensor:
    """Return ``-min(nll, nll_limit)`` (``[N]``, nats): a token beyond the limit has no gradient."""
    return -nll.clamp(max=nll_limit) if nll_limit is not None else -nll


def confidence_weights(log_p: Tensor, beta: float) -> Tensor:
    """Return WGA's weights ``p^beta`` (``[N]`` each): an unlikely token counts less."""
    return (beta * log_p.detach()).exp()


def saturation_weights(log_p: Tensor, beta1: float, beta2: float) -> Tensor:
    """Return SatImp's weights ``p^beta1 (1 - p)^beta2`` (``[N]`` each).

    The first factor is small for tokens that are forgotten already (saturation), the second for
    tokens of which the model is sure anyway, such as the rest of a word (importance).
    """
    log_p = log_p.detach()
    return (beta1 * log_p).exp() * (-log_p.expm1()) ** beta2


def preference_weights(log_p: Tensor, reference_log_p: Tensor, beta: float) -> Tensor:
    """Return TNPO's ``2 p^beta / (p^beta + p_ref^beta)`` (``[N]`` each): 1 at the reference."""
    return 2 * torch.sigmoid(beta * (log_p - reference_log_p).detach())


def soft_belief(student_logits: Tensor, target_ids: Tensor, top_k: int, mix: float) -> Tensor:
    """Return BS-T's ``mix * p|topK + (1 - mix) * onehot(y)``, ``[N, V]``, without gradient."""
    logits = student_logits.detach()
    top = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    belief = torch.zeros_like(logits).scatter(-1, top.indices, top.values.softmax(-1))
    one_hot = torch.zeros_like(logits).scatter(-1, target_ids[:, None], 1.0)
    return mix * belief + (1 - mix) * one_hot


class CrossEntropy(LogitObjective):
    """Make the answers of the rows likely: plain fine-tuning on them.

    With refusals as answers it is refusal training; with gold or the teacher's own answers it is
    the usual retain loss. Unit: nats per answer token.

    Formula: NLL = -log p, per token.
    Source: with refusals Maini et al. 2024 (IdkNLL), arXiv 2401.06121.
    Needs: answers.
    Cost: student 1, teacher 0.
    """

    needs_answers = True

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        values = losses.cross_entropy(logits, self.targets(batch))
        return Terms(values, batch.student.rows)


@dataclass(kw_only=True)
class GradientAscent(LogitObjective):
    """Make the answers of the rows unlikely: the negative of the usual training loss.

    Without a limit the loss has no lower bound and, trained for long, destroys the model. At a
    limit of ln V (11 nats for 50,000 tokens) a token stops at chance. Logs `nll`. Unit: nats per
    answer token.

    Formula: -min(NLL, nll_limit), per token.
    Source: Jang et al. 2023, arXiv 2210.01504; the limit is ours.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        nll_limit: A token whose negative log-likelihood is above this, in nats, is left alone;
            null for the published loss without a bound.
    """

    needs_answers = True
    statistics = ("nll",)
    nll_limit: float | None = ranged(None, 0, above=True, repair="set null for no bound")

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        nll = losses.cross_entropy(logits, self.targets(batch))
        values = gradient_ascent(nll, self.nll_limit)
        return Terms(values, batch.student.rows, {"nll": nll.detach()})


@dataclass(kw_only=True)
class WGA(LogitObjective):
    """Weighted gradient ascent: tokens that are unlikely already are left alone.

    Logs `nll`. Unit: nats per answer token, times the weight.

    Formula: -sg[p^beta] NLL, per token; beta 0 is GradientAscent.
    Source: Wang et al. 2025 (G-effect), arXiv 2502.19301.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        beta: Exponent of the token's probability in its weight.
    """

    needs_answers = True
    statistics = ("nll",)
    beta: float = ranged(1.0, 0)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        log_p = losses.log_likelihood(logits, self.targets(batch))
        return _ascend(log_p, confidence_weights(log_p, self.beta), batch)


@dataclass(kw_only=True)
class SatImp(LogitObjective):
    """Gradient ascent on tokens that are neither forgotten already nor certain anyway.

    Logs `nll`. Unit: nats per answer token, times the weight.

    Formula: -sg[p^beta1 (1 - p)^beta2] NLL, per token; beta2 0 is WGA.
    Source: Yang et al. 2025, arXiv 2505.11953.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update; open-unlearning has 0.1 beside a
            retain loss of weight 1.
        beta1: Exponent of p (saturation).
        beta2: Exponent of 1 - p (importance).
    """

    needs_answers = True
    statistics = ("nll",)
    beta1: float = ranged(5.0, 0)
    beta2: float = ranged(1.0, 0)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        log_p = losses.log_likelihood(logits, self.targets(batch))
        return _ascend(log_p, saturation_weights(log_p, self.beta1, self.beta2), batch)


@dataclass(kw_only=True)
class TNPO(LogitObjective):
    """Token-wise negative preference optimisation: NPO's weight for each token on its own.

    The gradient is that of NPO on one-token answers. The reference is the teacher; give the rows no
    context. Logs `nll`. Unit: nats per answer token, times the weight.

    Formula: -sg[2 p^beta / (p^beta + p_ref^beta)] NLL, per token.
    Source: Wang et al. 2025 (G-effect), arXiv 2502.19301.
    Needs: answers, teacher.
    Cost: student 1, teacher 1.

    Args:
        beta: Steepness with which the weight falls once a token is less likely than at the
            reference.
    """

    needs_teacher = True
    needs_answers = True
    statistics = ("nll",)
    beta: float = ranged(4.0, 0)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        target_ids = self.targets(batch)
        log_p = losses.log_likelihood(logits, target_ids)
        reference = losses.log_likelihood(present(teacher_logits), target_ids)
        return _ascend(log_p, preference_weights(log_p, reference, self.beta), batch)


@dataclass(kw_only=True)
class BST(LogitObjective):
    """Gradient ascent on the answer and on the student's own most likely tokens.

    Plain ascent moves probability from the answer to its paraphrases (squeezing); here the
    student's own top tokens are lowered as well. The top tokens' probabilities are normalised to
    sum 1. Constants as in kemoulee/open-unlearning@00e1b2c. Logs `nll`. Unit: nats per answer
    token.

    Formula: sum_v t_v log p_v with t = mix sg[p|topK] + (1 - mix) onehot(y); mix 0 is
        GradientAscent.
    Source: Li et al. 2025 (BS-T), arXiv 2510.19422.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        top_k: Number of the student's highest tokens that are lowered.
        mix: Share of the student's own belief in the target, between 0 and 1.
    """

    needs_answers = True
    statistics = ("nll",)
    top_k: int = ranged(20, 1)
    mix: float = ranged(0.2, 0, 1)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        target_ids = self.targets(batch)
        log_p = logits.log_softmax(-1)
        target = soft_belief(logits, target_ids, self.top_k, self.mix)
        nll = losses.cross_entropy(logits.detach(), target_ids)
        return Terms((target * log_p).sum(-1), batch.student.rows, {"nll": nll})


def _ascend(log_p: Tensor, weights: Tensor, batch: TokenBatch) -> Terms:
    return Terms(weights * log_p, batch.student.rows, {"nll": -log_p.detach()})
