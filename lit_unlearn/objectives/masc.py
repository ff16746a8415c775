"""MASC: shrink the lead of the answer's tokens over their likeliest rivals, and no further."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives.objective import LogitObjective, Terms
from lit_unlearn.types import TokenBatch

__all__ = ["MASC", "margin_at", "rival_margin"]


def margin_at(share: float) -> float:
    """Return tau, the margin at which a token has this share of its own and its rivals' weight.

    Raises:
        InputError: The share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(
            "Parameter `share` of a margin should lie between 0 and 1, both excluded. Found "
            f"{share}; 0.7 is published."
        )
    return log(share / (1 - share))


def rival_margin(logits: Tensor, target_ids: Tensor, top_k: int = 10) -> Tensor:
    """Return ``z_y - logsumexp`` of the K highest other logits, from ``[N, V]`` and ``[N]``.

    It is the log-odds, in nats, of the answer token among itself and its K likeliest rivals: above
    ``ln(rho / (1 - rho))`` the token has more than the share rho of their probability.
    """
    own = logits.gather(-1, target_ids[:, None])
    others = logits.scatter(-1, target_ids[:, None], -torch.inf)
    rivals = others.topk(min(top_k, logits.shape[-1] - 1), dim=-1).values
    return own.squeeze(-1) - rivals.logsumexp(-1)


@dataclass(kw_only=True)
class MASC(LogitObjective):
    """Margin self-correction: lower a token of the answer until its rivals are likely enough.

    A token that leads by less than the margin has no gradient, so that training can go without
    retain data and end when few tokens lead: EarlyStopping on `val/margin_violation/<objective>` is
    the stopping rule of the paper. Logs `violation`, the share of tokens whose margin is above tau.
    Unit: margins per answer token.

    Formula: max(0, m - (tau - buffer)) / buffer, per token, with m = z_y - logsumexp of the K
        highest other logits and tau = ln(share / (1 - share)).
    Source: Di Gennaro et al. 2026, arXiv 2606.02920; formula as in FedericoDiGennaro/
        Fast-LLM-Unlearning-MarginSelfCorrection@6b94838 (self competitors, beta 1), whose runs
        train a random end of each sequence where this objective trains all of the answer.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        top_k: K, the number of rivals.
        share: Share of the probability of token and rivals above which the token is too likely.
        buffer: Distance below tau at which the loss begins, in nats.
    """

    needs_answers = True
    statistics = ("violation",)
    top_k: int = ranged(10, 1)
    share: float = 0.7
    buffer: float = ranged(0.25, 0, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        margin_at(self.share)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        margin = rival_margin(logits, self.targets(batch), self.top_k)
        tau = margin_at(self.share)
        values = (margin - (tau - self.buffer)).relu() / self.buffer
        return Terms(values, batch.student.rows, {"violation": (margin.detach() > tau).float()})
