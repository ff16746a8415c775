"""What several objectives need: likelihoods, values of rows, and pairs of answers."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.objectives import losses


def log_likelihood(logits: Tensor, target_ids: Tensor) -> Tensor:
    """Log-probability of each target token, in nats: ``[N, V]``, ``[N]`` -> ``[N]``."""
    return -losses.cross_entropy(logits, target_ids)


def present(teacher_logits: Tensor | None) -> Tensor:
    """The teacher's logits, which `LogitObjective.forward` gives where `needs_teacher` is set."""
    if teacher_logits is None:
        raise ValueError("`teacher_logits` is None although the objective needs a teacher.")
    return teacher_logits


def row_sums(values: Tensor, rows: Tensor, row_count: int) -> Tensor:
    """``[B]`` sums of the values (``[N]``) of each row (``rows``: ``[N]``, int64)."""
    zeros = torch.zeros(row_count, dtype=values.dtype, device=values.device)
    return zeros.index_add(0, rows, values)


def row_means(values: Tensor, rows: Tensor, row_count: int) -> Tensor:
    """``[B]`` means of the values (``[N]``) of each row (``rows``: ``[N]``, int64)."""
    counts = row_sums(torch.ones_like(values), rows, row_count)
    return row_sums(values, rows, row_count) / counts


def answer_pairs(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that hold two answers to one question: the preferred first, the rejected second.

    Args:
        groups: ``[B]``, int64: rows of one question share a number.

    Returns:
        Two times ``[G]``, int64: the preferred and the rejected row of each question, in the order
        of the numbers.

    Raises:
        InputError: A question has not exactly two rows.
    """
    numbers, counts = groups.unique(return_counts=True)
    if bool((counts != 2).any()):
        raise InputError(
            "An objective that compares two answers needs both answers of every row, first the "
            "preferred and then the rejected one. Found a row with "
            f"{int(counts[counts != 2][0])} of them; set `rejected` in the objective's data "
            "beside `answer`."
        )
    order = groups.argsort(stable=True).reshape(len(numbers), 2)
    return order[:, 0], order[:, 1]
