"""benchmarks/script.py: a missing input is one line, as in the command."""

from __future__ import annotations

import sys

import pytest

from lit_unlearn.errors import InputError
from tests.benchmark_scripts import benchmark

script = benchmark("script")


def fail(error: Exception) -> None:
    raise error


def test_a_mistake_of_the_user_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/growth.py"])
    with pytest.raises(SystemExit) as found:
        script.run_script(lambda: fail(InputError("no such folder; name another one")))
    assert found.value.code == 2
    assert capsys.readouterr().err == "growth.py: error: no such folder; name another one\n"


def test_a_fault_of_the_script_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        script.run_script(lambda: fail(ZeroDivisionError()))
