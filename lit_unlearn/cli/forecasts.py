"""Forecast of a command's time, printed before its first long phase."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from lit_unlearn.errors import InputError
from lit_unlearn.utils.tables import terminal

if TYPE_CHECKING:
    from lit_unlearn.planning.phases import Forecast

__all__ = ["forecast_or_none", "print_forecast"]

log = logging.getLogger(__name__)


def forecast_or_none(foresee: Callable[[], Forecast | None]) -> Forecast | None:
    """Return a forecast; None if the work takes only seconds or cannot be planned."""
    try:
        return foresee()
    except InputError as error:  # the command reports it if it matters
        log.debug("No forecast: %s", error)
    except Exception as error:  # a model without a small copy; the command continues
        log.warning("No forecast of the time (%s: %s)", type(error).__name__, error)
    return None


def print_forecast(foresee: Callable[[], Forecast | None]) -> None:
    """Print a forecast, if there is one."""
    found = forecast_or_none(foresee)
    if found is not None:
        terminal(stderr=True).print(found.table())
