"""Say what a command will take, before its first long phase."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from lit_unlearn.errors import InputError
from lit_unlearn.utils.tables import terminal

if TYPE_CHECKING:
    from lit_unlearn.planning.phases import Forecast

__all__ = ["foreseen", "say"]

log = logging.getLogger(__name__)


def foreseen(foresee: Callable[[], Forecast | None]) -> Forecast | None:
    """Return a forecast; None where the work takes seconds or cannot be planned."""
    try:
        return foresee()
    except InputError as error:  # the command itself says so where it matters
        log.debug("No forecast: %s", error)
    except Exception as error:  # of a model that cannot be made small; its run goes on
        log.warning("No forecast of the time (%s: %s)", type(error).__name__, error)
    return None


def say(foresee: Callable[[], Forecast | None]) -> None:
    """Print a forecast, if there is one."""
    found = foreseen(foresee)
    if found is not None:
        terminal(stderr=True).print(found.table())
