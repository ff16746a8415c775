"""A forecast is printed where there is one, and never stops the command."""

from __future__ import annotations

import pytest

from lit_unlearn.cli.forecasts import print_forecast
from lit_unlearn.errors import InputError
from lit_unlearn.planning.phases import Forecast, Phase
from lit_unlearn.planning.rates import Rates


def raised(error: Exception) -> Forecast:
    raise error


def test_a_forecast_is_a_table_on_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    print_forecast(lambda: Forecast([Phase("teacher gate", 9e12)], Rates(1e12, 1e12)))
    told = capsys.readouterr()
    assert "teacher gate" in told.err
    assert "9 s" in told.err
    assert not told.out


def test_no_forecast_stops_the_command(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    print_forecast(lambda: None)
    print_forecast(lambda: raised(InputError("the command says so itself")))
    assert not caplog.messages
    print_forecast(lambda: raised(ValueError("one block")))
    assert caplog.messages == ["No forecast of the time (ValueError: one block)"]
    assert not capsys.readouterr().out
