"""The bound on computing time: it stops loops, leaves the rest alone, and cleans up."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import pytest

from lit_unlearn.utils.time_limit import computing_at_most


def loop() -> None:
    with computing_at_most(0.05):
        while True:
            pass


def test_a_loop_is_stopped() -> None:
    with pytest.raises(TimeoutError, match=r"still computing after 0.05 s"):
        loop()


def test_an_error_that_gets_lost_comes_again() -> None:
    """Python prints what is raised within a finaliser, and goes on."""
    lost = 0

    def lose() -> None:
        nonlocal lost
        with contextlib.suppress(TimeoutError):
            while True:
                pass
        lost += 1

    def twice() -> None:
        with computing_at_most(0.05):
            lose()
            while True:
                pass

    with pytest.raises(TimeoutError, match="still computing"):
        twice()
    assert lost == 1


def test_waiting_is_not_computing() -> None:
    """Four times the limit goes by on the clock, and next to nothing of it is used up."""
    with computing_at_most(0.05):
        time.sleep(0.2)
        left, _ = signal.getitimer(signal.ITIMER_VIRTUAL)
    assert 0 < left <= 0.06  # the timer counts in ticks, of which it adds one


def test_nothing_stays_behind() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with computing_at_most(5):
        pass
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_other_threads_have_no_limit() -> None:
    done: list[bool] = []

    def work() -> None:
        with computing_at_most(0.001):
            done.append(sum(range(10**6)) > 0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
