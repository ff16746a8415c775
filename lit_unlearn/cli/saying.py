"""Say what a command will take, before its first long phase."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from lit_unlearn.errors import InputError
from lit_unlearn.utils.tables import terminal

if TYPE_CHECKING:
    from lit_unlearn.planning.phases import Forecast

__all__ = ["say"]

log = logging.getLogger(__name__)


def say(foresee: Callable[[], Forecast | None]) -> None:
    """Print a forecast, unless the work takes seconds or cannot be planned."""
    try:
        found = foresee()
    except InputError as error:  # the command itself says so where it matters
        log.debug("No forecast: %s", error)
        return
    if found is not None:
        terminal(stderr=True).print(found.table())
