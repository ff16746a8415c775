"""Candidates of a row that are encoded when a step asks for them.

A row with prefills has dozens of candidates, of which a run reads a few; to encode all of them
before the first step took minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.training.setup.views import RowView
from lit_unlearn.types import EncodedExample

__all__ = ["Candidates"]


class Candidates(Sequence[EncodedExample]):
    """Encodes each of a row's views once, the first time that it is read.

    The first and the longest view are encoded at once, so that a row that cannot be encoded is
    found before training. The encoder must raise an error for such a row.

    Raises:
        EncodingError: The row cannot be encoded.
    """

    def __init__(self, views: Sequence[RowView], encoder: Encoder) -> None:
        self._views, self._encoder = views, encoder
        self._known: dict[str, EncodedExample] = {}
        longest = max(range(len(views)), key=lambda index: len(views[index].prefill))
        for index in (0, longest):
            self[index]

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> EncodedExample: ...

    @overload
    def __getitem__(self, index: slice) -> list[EncodedExample]: ...

    def __getitem__(self, index: int | slice) -> EncodedExample | list[EncodedExample]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        view = self._views[index]
        if view.prefill not in self._known:
            encoded = view.encode(self._encoder)
            if encoded is None:
                raise ValueError("Parameter `encoder` should have `on_problem` set to error.")
            self._known[view.prefill] = encoded
        return self._known[view.prefill]

    def known(self) -> list[EncodedExample]:
        """Return the candidates that were encoded so far."""
        return list(self._known.values())
