"""The accumulator of a step, which collects the objectives' gradients in the cheapest form."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from lit_unlearn.gradients.collect import Gradient, add_to, write_gradient
from lit_unlearn.gradients.gramian import GroupedGramian, gramian
from lit_unlearn.gradients.sketch import sketch, sketched_gramian

__all__ = ["Accumulator", "Mode"]

Mode = Literal["keep", "sketch", "sum"]


class Accumulator:
    """Collector of the objectives' gradients, one objective at a time.

    For each objective the step calls `start` before the backward passes and `add` after them. Mode
    ``keep`` keeps all gradients; ``sum`` adds them up with the objectives' weights at this step
    (``preferences``, ``[M]``); ``sketch`` does the same after taking a sketch of each.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        preferences: Tensor,
        groups: Mapping[str, Sequence[int]],
        mode: Mode,
        seed: int = 0,
    ) -> None:
        self.parameters, self.preferences, self.groups = parameters, preferences, groups
        self.mode: Mode = mode
        self.seed = seed
        self.kept: list[Gradient] = []
        """Gradients of the unweighted mean losses, under ``keep``."""
        self.total: Gradient = [None] * len(parameters)
        """Sum of the weighted gradients, unless they are kept."""
        self._sketches: list[Tensor] = []
        self._added = 0
        self._in_place = False

    def start(self, *, single: bool) -> float:
        """Prepare the backward passes of the next objective; return the factor of their losses.

        ``single`` says that one backward pass will give the gradient of the mean loss. In mode
        ``sum`` this pass then adds directly to the running sum, which saves the memory of a
        gradient and the time to fill it.
        """
        self._in_place = single and self.mode == "sum"
        empty: Gradient = [None] * len(self.parameters)
        write_gradient(self.parameters, self.total if self._in_place else empty)
        return float(self.preferences[self._added]) if self._in_place else 1.0

    def add(self, gradient: Gradient) -> None:
        """Add a gradient, divided by the number of loss terms; do not use it afterwards."""
        if self._in_place:
            self.total = gradient
        elif self.mode == "keep":
            self.kept.append(gradient)
        else:
            if self.mode == "sketch":
                self._sketches.append(sketch(gradient, self.groups, seed=self.seed))
            add_to(self.total, gradient, float(self.preferences[self._added]))
        self._added += 1

    def gramian(self) -> GroupedGramian | None:
        """Return the Gramian of the unweighted gradients: exact, of sketches, or None."""
        if self.mode == "keep":
            return gramian(self.kept, self.groups)
        return sketched_gramian(self._sketches, self.groups) if self._sketches else None
