"""A bound on how long code that came with data, such as a chat template, may compute."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["computing_at_most"]

_AGAIN = 0.1
"""Seconds until the error is raised again: one that is raised in a finaliser is lost."""


@contextmanager
def computing_at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` where the `with` statement takes more processor time, of all threads.

    Only the main thread has such a limit, and only where the system has the timer (POSIX).
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or not hasattr(signal, "SIGVTALRM"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"it was still computing after {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
