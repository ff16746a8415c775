"""JensUn: a bounded pull to the tokens of a refusal, along the answer to forget."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import Objective, Reader, Terms
from lit_unlearn.objectives.preference import answer_pairs
from lit_unlearn.types import TokenBatch

__all__ = ["JensUn", "divergence_from_token", "repeated"]


def divergence_from_token(log_p: Tensor) -> Tensor:
    """Return JSD(p, onehot(v)) in nats, from the log-probabilities of the tokens v (``[N]``).

    With m the mean of both, ``KL(onehot || m) / 2 + KL(p || m) / 2`` depends on p_v alone: it is
    ``ln 2 + (p_v ln p_v - (1 + p_v) ln(1 + p_v)) / 2``, which is ln 2 at p_v = 0, and 0 at 1.
    """
    p = log_p.exp()
    return log(2) + (p * log_p - (1 + p) * p.log1p()) / 2


def repeated(target_ids: Tensor, lengths: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Return the token at each offset of a text that is repeated without end.

    ``target_ids`` are the tokens of all texts, one text after the other, ``lengths`` (``[G]``)
    their lengths, ``rows`` (``[n]``) the text and ``offsets`` (``[n]``) the position of each token
    wanted.
    """
    starts = lengths.cumsum(0) - lengths
    return target_ids[starts[rows] + offsets % lengths[rows]]


@dataclass(kw_only=True)
class JensUn(Objective):
    """Pull every position of the answer to forget to a token of the refusal; the loss is bounded.

    Each row has a short refusal as its preferred answer, and the answer to forget as its rejected
    one, which is read. The targets at its positions are the refusal's tokens, over and over. The
    gradient is small where the student gives the target no probability, so that no single token
    dominates. For kept rows the method has GeneralizedJSD with the start model. Logs `refusal`, the
    probability of the target. Unit: nats per position, at most ln 2.

    Formula: JSD(p, onehot(r_t)) = ln 2 + (p_r ln p_r - (1 + p_r) ln(1 + p_r)) / 2, per token t of
        the answer, with r the tokens of the refusal, repeated.
    Source: Singh et al. 2025, arXiv 2509.02820; formula as in
        nmndeep/JensUn-Unlearning@9d0cfd5, jensun_multitok_loss.
    Needs: answers, pairs.
    Cost: student 1, teacher 0.

    Args:
        end: Whether the refusal's end-of-turn token is one of the targets, so that replies end (the
            authors' JensUnEOT); false for their default, "No idea" without end.
    """

    needs_answers = True
    needs_pairs = True
    statistics = ("refusal",)
    end: bool = True

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        refusals, answers = answer_pairs(batch.groups)
        wanted = batch.select_rows(refusals)
        read = batch.select_rows(answers)
        lengths = torch.bincount(wanted.student.rows, minlength=len(refusals))
        used = lengths if self.end else (lengths - 1).clamp(min=1)
        kept = wanted.offsets < used[wanted.student.rows]
        rows = read.student.rows
        tokens = repeated(self.targets(wanted)[kept], used, rows, read.offsets)
        log_p = losses.log_likelihood(student.logits(read.student), tokens)
        values = divergence_from_token(log_p)
        return Terms(values, answers[rows], {"refusal": log_p.detach().exp()})
