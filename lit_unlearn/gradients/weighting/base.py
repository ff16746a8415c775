"""What a weighting is, and the simplest one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.diagnostics import cosines, is_zero, norms


class Named(nn.Module):
    """Knows which objectives the rows of a Gramian, or the entries of a list of losses, are."""

    names: tuple[str, ...] = ()
    """Names of the objectives, in their order; empty before `bind`."""

    def bind(self, names: Sequence[str]) -> None:
        """Take the names of the objectives; the training step calls this once, at the start.

        Args:
            names: ``M`` names, in the order of the Gramian's rows.
        """
        self.names = tuple(names)

    def check_saved(self, names: Sequence[str]) -> None:
        """See that what a checkpoint holds belongs to these objectives, in this order.

        Raises:
            InputError: It does not.
        """
        if tuple(names) != self.names:
            raise InputError(
                f"{type(self).__name__} should go on with the objectives of its checkpoint, in "
                f"their order: {', '.join(names)}. Found {', '.join(self.names) or 'none'}; resume "
                "with the config of that run."
            )


class Weighting(Named, ABC):
    """Turns the Gramian of the objectives' gradients into their weights in the update."""

    needs_gramian: bool = True
    """Whether `forward` reads the values; if not, the step computes a Gramian only for its logs."""

    @abstractmethod
    def forward(self, gramian: Tensor) -> Tensor:
        """Weights of the gradients.

        Args:
            gramian: ``[M, M]``, float64: inner products of the gradients.

        Returns:
            ``[M]``, float64, on the device of the Gramian.
        """


class Fixed(Weighting):
    """Every gradient as it is: the update is the gradient of the weighted sum of the losses."""

    needs_gramian = False

    def forward(self, gramian: Tensor) -> Tensor:
        """``[M]`` ones."""
        return gramian.new_ones(len(gramian), dtype=torch.float64)


class CosineWeighting(Weighting, ABC):
    """A weighting that is computed from cosines and norms, among gradients that are not zero.

    A Gramian with NaN or infinity gives NaN weights.
    """

    zero_weight: float = 0.0
    """Weight of a zero gradient; it changes the update in no way."""

    @abstractmethod
    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """Weights of gradients none of which is zero.

        Args:
            cosine: ``[M, M]``, float64, on the CPU: cosines of the gradients, ``M`` at least 1.
            lengths: ``[M]``, float64, on the CPU: their norms.

        Returns:
            ``[M]``, float64.
        """

    def forward(self, gramian: Tensor) -> Tensor:
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        weights = torch.full((len(gramian),), self.zero_weight, dtype=torch.float64)
        alive = alive_rows(gramian)
        if len(alive):
            nonzero = gramian.cpu()[alive][:, alive]
            weights[alive] = self.solve(cosines(nonzero), norms(nonzero))
        return weights.to(gramian.device)


def not_a_number(gramian: Tensor) -> Tensor:
    """``[M]`` NaN weights, on which the step stops."""
    return torch.full_like(gramian[0], torch.nan, dtype=torch.float64)


def alive_rows(gramian: Tensor) -> Tensor:
    """Indices of the gradients that are not zero, int64, on the CPU."""
    return (~is_zero(gramian)).nonzero().squeeze(1).cpu()
