"""Elements that operations read and write, counted during a run on small tensors."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lit_unlearn.utils.library_internals import TorchDispatchMode, storage_key

__all__ = ["Traffic"]


class Traffic(TorchDispatchMode):
    """Context manager that counts read and written elements of tensors by their last dimension.

    Args:
        size: Last dimension of the counted tensors; no other tensors may have it.
    """

    def __init__(self, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = size
        self.elements = 0
        """Number of elements that were read or written."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        read, made = list(self._large(args)), list(self._large((found,)))
        changed = func._schema.is_mutable
        known = {storage_key(tensor) for tensor in read}
        if changed or any(storage_key(tensor) not in known for tensor in made) or not made:
            self.elements += sum(tensor.numel() for tensor in (*read, *made))
        for tensor in made:
            self.hold(tensor)
        return found

    def hold(self, tensor: Tensor) -> None:
        """Handle the result of an operation; a subclass may record it."""

    def _large(self, values: Any) -> Iterator[Tensor]:
        for value in values:
            if isinstance(value, tuple | list):
                yield from self._large(value)
            elif isinstance(value, Tensor) and value.dim() > 0 and value.shape[-1] == self.size:
                yield value
