"""Gradient ascent on given answers, and its weighted variants.

All of them return ``w * log p`` for each answer token, with a weight that carries no gradient: a
descent step makes the token less likely, by as much as the weight says. Shapes as in `losses`.
"""

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, targets
from lit_unlearn.objectives.row_values import log_likelihood, present
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch


def gradient_ascent(nll: Tensor, nll_limit: float | None = None) -> Tensor:
    """``-min(nll, nll_limit)``: a token beyond the limit has no gradient any more.

    Args:
        nll: ``[N]`` negative log-likelihood of each answer token, in nats.
        nll_limit: Where the ascent stops, in nats; None for never.

    Returns:
        ``[N]``, at least ``-nll_limit``.
    """
    return -nll.clamp(max=nll_limit) if nll_limit is not None else -nll


def confidence_weights(log_p: Tensor, beta: float) -> Tensor:
    """WGA's weights ``p^beta`` (``[N]`` each): what is forgotten already counts less."""
    return (beta * log_p.detach()).exp()


def saturation_weights(log_p: Tensor, beta1: float, beta2: float) -> Tensor:
    """SatImp's weights ``p^beta1 (1 - p)^beta2`` (``[N]`` each).

    The first factor takes away from tokens that are forgotten already (saturation), the second
    from those that the model is sure of anyway, such as the rest of a word (importance).
    """
    log_p = log_p.detach()
    return (beta1 * log_p).exp() * (-log_p.expm1()) ** beta2


def preference_weights(log_p: Tensor, reference_log_p: Tensor, beta: float) -> Tensor:
    """TNPO's weights ``2 p^beta / (p^beta + p_ref^beta)`` (``[N]`` each): 1 at the reference."""
    return 2 * torch.sigmoid(beta * (log_p - reference_log_p).detach())


def soft_belief(student_logits: Tensor, target_ids: Tensor, top_k: int, mix: float) -> Tensor:
    """BS-T's target ``mix * p|topK + (1 - mix) * onehot(y)``, ``[N, V]``, without gradient."""
    logits = student_logits.detach()
    top = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    belief = torch.zeros_like(logits).scatter(-1, top.indices, top.values.softmax(-1))
    one_hot = torch.zeros_like(logits).scatter(-1, target_ids[:, None], 1.0)
    return mix * belief + (1 - mix) * one_hot


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
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        nll_limit: A token whose negative log-likelihood is above this, in nats, is left alone;
            null for the published loss without a bound.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        nll_limit: float | None = None,
    ) -> None:
        super().__init__(weight, schedule, positions)
        if nll_limit is not None and nll_limit <= 0:
            raise InputError(
                "Parameter `nll_limit` of GradientAscent should be positive, or null for no bound. "
                f"Found {nll_limit}."
            )
        self.nll_limit = nll_limit

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        nll = losses.cross_entropy(student_logits, targets(batch, self))
        values = gradient_ascent(nll, self.nll_limit)
        return Terms(values, batch.student.rows, {"nll": nll.detach()})


class WGA(LogitObjective):
    """Weighted gradient ascent: tokens that are unlikely already are left alone.

    Logs `nll`. Unit: nats per answer token, times the weight.

    Formula: -sg[p^beta] NLL, per token; beta 0 is GradientAscent.
    Source: Wang et al. 2025 (G-effect), arXiv 2502.19301.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: Exponent of the token's probability in its weight.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__(weight, schedule, positions)
        _check_exponents(self, beta=beta)
        self.beta = beta

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        log_p = log_likelihood(student_logits, targets(batch, self))
        return _ascend(log_p, confidence_weights(log_p, self.beta), batch)


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
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta1: Exponent of p (saturation).
        beta2: Exponent of 1 - p (importance).
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta1: float = 5.0,
        beta2: float = 1.0,
    ) -> None:
        super().__init__(weight, schedule, positions)
        _check_exponents(self, beta1=beta1, beta2=beta2)
        self.beta1, self.beta2 = beta1, beta2

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        log_p = log_likelihood(student_logits, targets(batch, self))
        return _ascend(log_p, saturation_weights(log_p, self.beta1, self.beta2), batch)


class TNPO(LogitObjective):
    """Token-wise negative preference optimisation: NPO's weight for each token on its own.

    The gradient is that of NPO on one-token answers. The reference is the teacher; give the rows no
    context. Logs `nll`. Unit: nats per answer token, times the weight.

    Formula: -sg[2 p^beta / (p^beta + p_ref^beta)] NLL, per token.
    Source: Wang et al. 2025 (G-effect), arXiv 2502.19301.
    Needs: answers, teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: How sharply the weight falls once a token is less likely than at the reference.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 4.0,
    ) -> None:
        super().__init__(weight, schedule, positions)
        _check_exponents(self, beta=beta)
        self.beta = beta

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        target_ids = targets(batch, self)
        log_p = log_likelihood(student_logits, target_ids)
        reference = log_likelihood(present(teacher_logits), target_ids)
        return _ascend(log_p, preference_weights(log_p, reference, self.beta), batch)


class BST(LogitObjective):
    """Gradient ascent on the answer and on what the student itself would rather say.

    Plain ascent moves probability from the answer to its paraphrases (squeezing); the student's own
    top tokens are lowered with it. The top tokens' probabilities are normalised to sum 1, and the
    constants are ours: the paper's were not available. Logs `nll`. Unit: nats per answer token.

    Formula: sum_v t_v log p_v with t = mix sg[p|topK] + (1 - mix) onehot(y); mix 0 is
        GradientAscent.
    Source: Li et al. 2025 (BS-T), arXiv 2510.19422.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        top_k: How many of the student's highest tokens are lowered.
        mix: Share of the student's own belief in the target, between 0 and 1.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        top_k: int = 10,
        mix: float = 0.5,
    ) -> None:
        super().__init__(weight, schedule, positions)
        if top_k < 1 or not 0 <= mix <= 1:
            raise InputError(
                "Parameters of BST: `top_k` should be at least 1 and `mix` lie between 0 and 1. "
                f"Found {top_k} and {mix}."
            )
        self.top_k, self.mix = top_k, mix

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        target_ids = targets(batch, self)
        log_p = student_logits.log_softmax(-1)
        target = soft_belief(student_logits, target_ids, self.top_k, self.mix)
        nll = losses.cross_entropy(student_logits.detach(), target_ids)
        return Terms((target * log_p).sum(-1), batch.student.rows, {"nll": nll})


def _ascend(log_p: Tensor, weights: Tensor, batch: TokenBatch) -> Terms:
    return Terms(weights * log_p, batch.student.rows, {"nll": -log_p.detach()})


def _check_exponents(objective: LogitObjective, **exponents: float) -> None:
    for name, value in exponents.items():
        if value < 0:
            raise InputError(
                f"Parameter `{name}` of {type(objective).__name__} should be at least 0. "
                f"Found {value}."
            )
