"""One line for what is no fault of the package, a traceback for what is; `--debug`."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable

import pytest
import torch
import yaml
from torch import nn

from lit_unlearn import __main__ as dispatcher
from lit_unlearn.cli.failures import foreign_line
from lit_unlearn.cli.quiet import _thread_failed
from lit_unlearn.errors import InputError, did_you_mean


def raised_by(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def wrapped(cause: BaseException) -> BaseException:
    def wrap() -> None:
        raise ValueError("Does not validate against any of the Union subtypes") from cause

    return raised_by(wrap)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("this: that"), ["this: that"]),
        (wrapped(InputError("this: that")), ["this: that"]),
        (raised_by(lambda: json.loads("{")), ["json: JSONDecodeError: Expecting", "--debug"]),
        (raised_by(lambda: yaml.safe_load("a: [")), ["yaml: ParserError:", "--debug"]),
        (raised_by(lambda: nn.Linear(2, -1)), ["torch: RuntimeError:", "--debug"]),
        (wrapped(raised_by(lambda: json.loads("{"))), ["json: JSONDecodeError"]),
        (raised_by(lambda: __import__("missing_one.part")), ["pip install missing_one"]),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), ["/x: Permission denied; take"]),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), ["/x: No space left", "room"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["cannot be written: No space left"]),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), ["/x: No such file"]),
        (ConnectionError("the hub\ndoes not answer"), ["the hub does not answer"]),
        (torch.OutOfMemoryError("CUDA out of memory"), ["not enough memory", "micro_batch_rows"]),
        (MemoryError(), ["not enough memory: MemoryError"]),
    ],
)
def test_one_line(error: BaseException, words: list[str]) -> None:
    line = foreign_line(error)
    assert line is not None
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_our_own_mistakes_and_those_of_a_working_model_keep_their_traceback() -> None:
    not_a_name: str = None  # type: ignore[assignment]
    assert foreign_line(raised_by(lambda: did_you_mean(not_a_name, ["a"]))) is None
    assert foreign_line(raised_by(lambda: nn.Linear(2, 2)(torch.ones(3)))) is None


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let the command ``fit`` call a function, without the variable that `--debug` sets."""
    monkeypatch.setitem(os.environ, dispatcher.DEBUG_VARIABLE, "")
    command = dispatcher.Command("", f"{__name__}:run")
    monkeypatch.setitem(dispatcher.COMMANDS, "fit", command)

    def use(function: Callable[[], object]) -> None:
        monkeypatch.setitem(globals(), "run", lambda args: function())

    return use


@pytest.mark.parametrize("place", [0, 1])
def test_debug_shows_the_traceback_beside_the_line(
    failing: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
    place: int,
) -> None:
    failing(lambda: json.loads("{"))
    assert dispatcher.main(["fit"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    args = ["fit"]
    args.insert(place, "--debug")
    assert dispatcher.main(args) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith(line)
    assert os.environ[dispatcher.DEBUG_VARIABLE] == "1"  # for the processes of a sweep


def test_a_bug_says_where_to_report_it(
    failing: Callable[[Callable[[], object]], None],
) -> None:
    failing(lambda: did_you_mean(None, ["a"]))  # type: ignore[arg-type]
    with pytest.raises(AttributeError) as caught:
        dispatcher.main(["fit"])
    assert any("report it as an issue" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(("number", "lines"), [(errno.ENOSPC, 0), (errno.EBADF, 2)])
def test_a_full_disk_is_said_once(
    capsys: pytest.CaptureFixture[str], number: int, lines: int
) -> None:
    """The thread of TensorBoard says nothing, since the main thread raises its error again."""
    error = OSError(number, "not written")
    _thread_failed(threading.ExceptHookArgs((type(error), error, None, None)))
    assert len(capsys.readouterr().err.splitlines()) == lines
