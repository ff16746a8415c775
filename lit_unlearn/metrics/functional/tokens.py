"""Answer positions of logits, and statistics of the tokens at them."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_unlearn.errors import InputError

__all__ = ["IGNORED", "answer_positions", "token_statistics"]

IGNORED = -100
"""Label of a position that belongs to no answer, as in torch and transformers."""
_AT_ONCE = 2**24
"""Most logits in one step of work: 64 MiB in float32."""


def answer_positions(
    preds: Tensor, target: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits, labels and rows of the answer positions: those whose label counts.

    Args:
        preds: ``[B, T, V]`` logits or log-probabilities, or ``[N, V]`` with ``rows``.
        target: ``[B, T]`` or ``[N]``, int64: the token that each position predicts; `IGNORED`
            (-100) where a position belongs to no answer.
        rows: ``[N]``, int64: row of each position, if the rows are packed one after the other.

    Returns:
        ``[K, V]``, ``[K]`` and ``[K]``: positions of one row stand together, in their order.

    Raises:
        InputError: The shapes do not fit, or a label is neither `IGNORED` nor from 0 to ``V - 1``.
    """
    _check_shapes(preds, target, rows)
    if rows is None:
        rows = torch.arange(len(target), device=target.device)[:, None].expand_as(target).flatten()
        preds, target = preds.flatten(0, 1), target.flatten()
    kept = (target != IGNORED).nonzero()[:, 0]
    kept = kept[rows[kept].argsort(stable=True)]
    if not torch.equal(kept, torch.arange(len(target), device=kept.device)):  # else spare a copy
        preds, target, rows = preds[kept], target[kept], rows[kept]
    if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < preds.shape[-1]:
        raise InputError(
            f"Parameter `target` should hold token ids from 0 to {preds.shape[-1] - 1}, or "
            f"{IGNORED} where a position does not count. Found {int(target.min())} to "
            f"{int(target.max())}."
        )
    return preds, target, rows


def _check_shapes(preds: Tensor, target: Tensor, rows: Tensor | None) -> None:
    shape = tuple(preds.shape[:-1])
    fits = len(shape) == (2 if rows is None else 1) and tuple(target.shape) == shape
    if not fits or (rows is not None and rows.shape != target.shape):
        packed = "none" if rows is None else str(tuple(rows.shape))
        raise InputError(
            "Parameters `preds` and `target` should have shapes [B, T, V] and [B, T], or, with "
            f"`rows`, [N, V], [N] and [N]. Found {tuple(preds.shape)}, {tuple(target.shape)} and "
            f"`rows` {packed}."
        )


def token_statistics(logits: Tensor, targets: Tensor) -> Tensor:
    """Return ``[4, N]`` statistics of distributions over the vocabulary, and of one token in each.

    They are, in float32 and in nats: the log-probability of the target; 1 where it is the most
    probable token; the expectation of the log-probability under the distribution; and its standard
    deviation. Min-K++ normalises a log-probability by this mean and deviation (Zhang et al. 2024,
    arXiv 2404.02936, Eq. 3); a token of probability 0 adds nothing to either.

    Args:
        logits: ``[N, V]``, any dtype; the work is done in float32, a part at a time.
        targets: ``[N]`` int64 token ids.
    """
    size = max(1, _AT_ONCE // logits.shape[-1])
    parts = zip(logits.split(size), targets.split(size), strict=True)
    return torch.cat([_statistics(part, wanted) for part, wanted in parts], dim=1)


def _statistics(logits: Tensor, targets: Tensor) -> Tensor:
    log_probs = logits.float().log_softmax(-1)
    probs = log_probs.exp()
    finite = log_probs.masked_fill(probs == 0, 0.0)
    means = torch.linalg.vecdot(probs, finite)
    variances = torch.linalg.vecdot(probs, (finite - means[:, None]).square_())
    own = log_probs.gather(1, targets[:, None])[:, 0]
    hits = log_probs.argmax(-1) == targets
    return torch.stack([own, hits.float(), means, variances.sqrt()])
