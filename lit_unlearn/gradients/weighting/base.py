"""The interface of a weighting, and the simplest one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, check_fields
from lit_unlearn.gradients.diagnostics import cosines, is_zero, norms

__all__ = ["CosineWeighting", "Fixed", "Rule", "Weighting", "alive_rows", "not_a_number"]


class Rule:
    """Rule that knows the objectives' names, and may learn from their gradients or losses."""

    names: tuple[str, ...] = ()
    """Names of the objectives, in their order; empty before `bind`."""
    learnt: tuple[str, ...] = ()
    """Attributes that training changes, of types that ``torch.load(weights_only=True)`` reads."""

    def __post_init__(self) -> None:
        """Check the numbers of a dataclass that is a rule."""
        check_fields(self)

    def bind(self, names: Sequence[str]) -> None:
        """Take the objectives' names in the Gramian's order; `UnlearnModule` calls this once."""
        self.names = tuple(names)

    def check_count(self, count: int, unit: str) -> None:
        """Check that every gradient, or row of the Gramian, has a name."""
        if count != len(self.names):
            raise InputError(
                f"{type(self).__name__} should know the name of every {unit}. Found "
                f"{len(self.names)} names for {count} {unit}s. Call `bind` with the objectives' "
                "names before the first step."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the learnt attributes with the objectives' names; empty if nothing is learnt."""
        learnt = {name: deepcopy(getattr(self, name)) for name in self.learnt}
        return {"names": self.names, **learnt} if learnt else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the learnt attributes from a checkpoint."""
        state = state.get("_extra_state", state)  # earlier versions: rules were modules
        names = tuple(state.get("names", self.names))
        if names != self.names:
            raise InputError(
                f"{type(self).__name__} should resume with the objectives of its checkpoint, in "
                f"their order: {', '.join(names)}. Found {', '.join(self.names) or 'none'}; resume "
                "with the config of that run."
            )
        for name in self.learnt:
            setattr(self, name, deepcopy(state[name]))


class Weighting(Rule, ABC):
    """Rule that turns the Gramian of the objectives' gradients into their weights in the update."""

    needs_gramian = True
    """Whether the weights depend on the Gramian; if not, the step only computes it for logs."""

    @abstractmethod
    def __call__(self, gramian: Tensor) -> Tensor:
        """Return the weights of the gradients, ``[M]``, from their Gramian; all float64."""


class Fixed(Weighting):
    """Unchanged gradients: the update is the gradient of the weighted sum of the losses."""

    needs_gramian = False

    def __call__(self, gramian: Tensor) -> Tensor:
        return gramian.new_ones(len(gramian), dtype=torch.float64)


class CosineWeighting(Weighting):
    """A weighting that is computed from cosines and norms, among gradients that are not zero.

    A Gramian with NaN or infinity gives NaN weights.
    """

    zero_weight = 0.0
    """Weight of a zero gradient; it has no effect on the update."""

    @abstractmethod
    def solve(self, cosine: Tensor, lengths: Tensor) -> Tensor:
        """Return the weights of gradients none of which is zero; all are float64 on the CPU.

        Args:
            cosine: ``[M, M]``: cosines of the gradients, ``M`` at least 1.
            lengths: ``[M]``: their norms.
        """

    def __call__(self, gramian: Tensor) -> Tensor:
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        weights = torch.full((len(gramian),), self.zero_weight, dtype=torch.float64)
        alive = alive_rows(gramian)
        if len(alive):
            nonzero = gramian.cpu()[alive][:, alive]
            weights[alive] = self.solve(cosines(nonzero), norms(nonzero))
        return weights.to(gramian.device)


def not_a_number(gramian: Tensor) -> Tensor:
    """Return ``[M]`` NaN weights, at which the step stops."""
    return torch.full_like(gramian[0], torch.nan, dtype=torch.float64)


def alive_rows(gramian: Tensor) -> Tensor:
    """Return the indices of the gradients that are not zero, int64, on the CPU."""
    return (~is_zero(gramian)).nonzero().squeeze(1).cpu()
