"""Time limit for code that comes with data, such as a chat template."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["computing_at_most"]

_AGAIN = 0.1
"""Seconds until the error is raised again, since an error in a finaliser is lost."""


@contextmanager
def computing_at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if the `with` block takes more processor time, over all threads.

    The limit holds only in the main thread, and on systems that have the timer (POSIX).
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not hasattr(signal, "SIGVTALRM"):
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
