"""Detect NaN and infinity in losses, gradients and weights before the optimizer step."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_unlearn.errors import InputError, check_number

__all__ = ["Guard", "NotFiniteError", "check_weights", "gradient_trouble", "loss_trouble"]

log = logging.getLogger(__name__)

_REPAIR = (
    "Lower the learning rate (`model.optimizer.init_args.lr`) or the objective's `weight`, set "
    "`clip_norm`, or set `model.guard.skip` to skip such steps."
)


class NotFiniteError(InputError):
    """A loss, a gradient or a weight is NaN or infinite."""


def loss_trouble(name: str, values: Tensor, rows: Sequence[str], step: int) -> list[NotFiniteError]:
    """Return a list with the error about an objective's loss terms; empty if all are finite."""
    if bool(torch.isfinite(values).all()):
        return []
    return [NotFiniteError(f"The loss of objective {name!r} {_where(rows, step)} {_REPAIR}")]


@torch.no_grad()
def gradient_trouble(
    name: str, gradient: Iterable[Tensor | None], rows: Sequence[str], step: int
) -> list[NotFiniteError]:
    """Return a list with the error about an objective's gradient; empty if it is finite.

    Of sharded tensors only this process's slices are checked.
    """
    local = [g.to_local() if isinstance(g, DTensor) else g for g in gradient if g is not None]
    present = [part for part in local if part.numel()]
    if not present:
        return []
    # a sum takes a tenth of the time of a maximum, and propagates NaN and infinity
    sums = torch.stack([part.sum(dtype=torch.float32) for part in present])
    if bool(torch.isfinite(sums).all()):
        return []
    return [NotFiniteError(f"The gradient of objective {name!r} {_where(rows, step)} {_REPAIR}")]


def check_weights(weights: Tensor, step: int) -> None:
    """Check that the weights of a weighting are finite, or raise `NotFiniteError`."""
    if not bool(torch.isfinite(weights).all()):
        raise NotFiniteError(
            f"The weighting should give finite weights. Found {weights.tolist()} at step {step}; "
            "use another `model.weighting`, or set `model.guard.skip` to skip such steps."
        )


def _where(rows: Sequence[str], step: int) -> str:
    return f"is not finite at step {step}, in a batch with the rows {', '.join(rows)}."


@dataclass
class Guard:
    """The limit of steps that are skipped because a loss, a gradient or a weight is not finite.

    A skipped step does not change weights or optimizer.

    Args:
        skip: Number of such steps that are skipped in a run, with a warning each; the next one
            stops the run. 0 stops at the first.
    """

    skip: int = 0
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        check_number("model.guard.skip", self.skip, 0)

    def leave_out(self, error: NotFiniteError) -> None:
        """Count a skipped step, or raise the error if too many were skipped."""
        if self.skipped >= self.skip:
            raise error
        self.skipped += 1
        log.warning("Step skipped (%d of at most %d): %s", self.skipped, self.skip, error)
