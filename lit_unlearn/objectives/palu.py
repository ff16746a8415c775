"""PALU: flatten the likely tokens where forgotten facts begin, and keep the rest of the answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, present, row_means
from lit_unlearn.types import TokenBatch

__all__ = ["PALU", "local_flatness", "span_starts"]


def local_flatness(student_logits: Tensor, teacher_logits: Tensor, top_k: int) -> Tensor:
    """Return the mean over the teacher's top K of ``(z_v - mean_w z_w)^2``, from ``[N, V]`` logits.

    The mean in the bracket is over the student's whole vocabulary. Unit: squared logits, ``[N]``.
    """
    top = teacher_logits.topk(min(top_k, teacher_logits.shape[-1]), dim=-1).indices
    gap = student_logits.gather(-1, top) - student_logits.mean(-1, keepdim=True)
    return gap.square().mean(-1)


def span_starts(marked: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return the first ``count`` tokens of each span, ``[N]`` bool.

    A span is a run of ``marked`` tokens (``[N]``, bool) of one row (``rows``: ``[N]``, in order).
    """
    place = torch.arange(len(rows), device=rows.device)
    follows = torch.zeros_like(marked)
    follows[1:] = marked[:-1] & (rows[1:] == rows[:-1])
    begin = torch.where(marked & ~follows, place, 0).cummax(0).values
    return marked & (place - begin < count)


@dataclass(kw_only=True)
class PALU(LogitObjective):
    """Flatten the teacher's likeliest tokens at the beginning of each forgotten span.

    The rows have `mark_spans: true`, which marks the tokens of the answer that hold its knowledge.
    Only the first tokens of a span are trained to forget; its other tokens are left alone, and the
    tokens outside of spans are kept near the start model, which is the teacher. Give the rows no
    context. Where the authors let a classifier or GPT-4 mark the spans, here they are the accepted
    answer or the words that the question does not contain. Logs `flatness` and `drift`, the two
    parts. Unit: squared logits plus nats, one value per row.

    Formula: mean over the first tokens of spans and over the top K of z_ref of (z_v - mean z)^2 +
        keep times the mean over unmarked tokens of KL(p || p_ref), per row.
    Source: Zhai et al. 2026, arXiv 2601.03190; formula as in nxZhai/PALU@8c3fea6, unlearn/palu.py,
        but one mean for each row, where the authors take the tokens of the whole batch.
    Needs: answers, teacher, spans.
    Cost: student 1, teacher 1.

    Args:
        top_k: K, the number of the teacher's highest logits that are flattened.
        prefix: Number of first tokens of each span that are trained.
        keep: Factor of the divergence on unmarked tokens.
    """

    needs_teacher = True
    needs_answers = True
    needs_spans = True
    statistics = ("flatness", "drift")
    top_k: int = ranged(1000, 1)
    prefix: int = ranged(3, 1)
    keep: float = ranged(1.0, 0)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        self.targets(batch)
        if batch.marked is None:
            raise InputError(
                "Objective PALU needs rows with marked spans. Found none; set `mark_spans: true` "
                "in the objective's data."
            )
        teacher_logits, rows = present(teacher_logits), batch.student.rows
        starts = span_starts(batch.marked, rows, self.prefix)
        flatness = local_flatness(logits[starts], teacher_logits[starts], self.top_k)
        other = ~batch.marked
        drift = losses.reverse_kl(logits[other], teacher_logits[other])
        parts = [
            row_means(flatness, rows[starts], len(batch)),
            row_means(drift, rows[other], len(batch)),
        ]
        values = parts[0] + self.keep * parts[1]
        figures = {n: part.detach() for n, part in zip(self.statistics, parts, strict=True)}
        return Terms(values, torch.arange(len(batch), device=rows.device), figures)
