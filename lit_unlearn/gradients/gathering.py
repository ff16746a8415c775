"""Gathers the objectives' gradients of one step: kept, sketched, or only added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from lit_unlearn.gradients.collect import Gradient, Sum, add_to
from lit_unlearn.gradients.gramian import GroupedGramian, gramian
from lit_unlearn.gradients.sketch import sketch, sketched_gramian

Diagnostics = Literal["exact", "sketch"]


class Gathering:
    """Takes the gradients one after the other.

    Args:
        preferences: ``[M]``: the factors with which they are added up where they are not kept.
        parameters: Number of trainable parameters.
        groups: Layer groups of the Gramian.
        keep: Whether all gradients are kept.
        sketch_seed: Seed of the sketches; None takes none.
    """

    def __init__(
        self,
        preferences: Tensor,
        parameters: int,
        groups: Mapping[str, Sequence[int]],
        *,
        keep: bool,
        sketch_seed: int | None = None,
    ) -> None:
        self.preferences = preferences
        self.groups = groups
        self.keep = keep
        self.sketch_seed = sketch_seed
        self.kept: list[Gradient] = []
        self.sketches: list[Tensor] = []
        self._taken = 0
        self.total: Gradient = [None] * parameters
        """The sum of the weighted gradients; empty where they are kept."""

    @property
    def onto(self) -> Sum | None:
        """The sum that the next gradient may be added to at once; None where it is needed alone."""
        if self.keep or self.sketch_seed is not None:
            return None
        return Sum(self.total, float(self.preferences[self._taken]))

    def add(self, gradient: Gradient, *, added: bool = False) -> None:
        """Take the next objective's gradient; it is used up.

        Args:
            gradient: Of its unweighted mean loss, or the new sum.
            added: Whether it is the new sum, see `onto`.
        """
        if added:
            self.total = gradient
            self._taken += 1
            return
        if self.sketch_seed is not None:
            self.sketches.append(sketch(gradient, self.groups, seed=self.sketch_seed))
        if self.keep:
            self.kept.append(gradient)
            return
        factor = float(self.preferences[self._taken])
        self._taken += 1
        add_to(self.total, gradient, factor)

    def gramian(self) -> GroupedGramian:
        """Of the unweighted gradients: exact where they were kept, else from their sketches.

        Raises:
            ValueError: They were neither kept nor sketched.
        """
        if self.keep:
            return gramian(self.kept, self.groups)
        if not self.sketches:
            raise ValueError("Parameter `keep` should be True, or `sketch_seed` a seed.")
        return sketched_gramian(self.sketches, self.groups)
