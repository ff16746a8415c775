"""Child processes that end with this one, also if it is killed."""

import ctypes
import signal
import sys
from collections.abc import Callable

__all__ = ["END_WITH_PARENT"]

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Let this process get SIGTERM when its parent is killed, which cannot send it any more."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


END_WITH_PARENT: Callable[[], None] | None = _end_with_parent if _LIBC else None
"""Value of `preexec_fn` for such a child; None where the system has nothing of the kind."""
