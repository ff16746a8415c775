"""Stages of long work: what is counted, and what is shown in a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest
from rich.console import Console

from lit_unlearn.utils import progress
from lit_unlearn.utils.progress import Stage, duration, shown


def terminal() -> Console:
    return Console(width=100, file=io.StringIO(), force_terminal=True, force_interactive=True)


def log() -> Console:
    return Console(width=20, file=io.StringIO())


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[?\d;]*\w", "", console.file.getvalue())


def test_counts_of_ranks_with_equal_shares() -> None:
    """Ten units on four ranks: three of this rank's stand for all ten, not for twelve."""
    stage = Stage("answers", 15, done=5)
    count = stage.counter(10, 4)
    seen = []
    for own in (1, 2, 3):
        count(own)
        seen.append(stage.done)
    assert seen == [9, 13, 15]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (61, "2 min"), (4000, "1 h 7 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_left_ignores_what_was_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten units in 20 s, 100 are left: 200 s, which is 4 min; the 50 from before took none."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    stage = Stage("gate", 160, done=50)
    assert stage.state == "50 of 160 rows, 0 s so far"
    stage.add(10)
    monkeypatch.setattr(time, "monotonic", lambda: 120.0)
    assert stage.state == "60 of 160 rows, 4 min left"
    stage.add(100)
    assert stage.state == "160 rows, 20 s"


def test_before_anything_is_done_the_time_expected_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 s, 60 have passed; after the first of three in 90 s two are left."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    stage = Stage("finished", 3, "runs")
    stage.expected = 300.0
    monkeypatch.setattr(time, "monotonic", lambda: 160.0)
    assert stage.state == "0 of 3 runs, at most 4 min left"
    monkeypatch.setattr(time, "monotonic", lambda: 190.0)
    stage.add()
    assert stage.left == "3 min left"


def test_work_that_takes_longer_than_expected_shows_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    stage = Stage("finished", 3, "runs")
    stage.expected = 300.0
    monkeypatch.setattr(time, "monotonic", lambda: 460.0)
    assert stage.state == "0 of 3 runs, 6 min so far"


def test_a_terminal_gets_a_bar_with_the_part_and_the_counts() -> None:
    console = terminal()
    with shown(Stage("teacher gate", 0), console) as stage:
        stage.more(1200)
        stage.part = "[forget]"
        stage.add(300)
    assert re.search(
        r"teacher gate: \[forget\] \S+ 300 of 1,200 rows, \d+ s left", text_of(console)
    )


@pytest.mark.parametrize("total", [0, None])
def test_stages_without_a_total(total: int | None) -> None:
    console = terminal()
    with shown(Stage("collecting", total), console):
        pass
    assert ("collecting" in text_of(console)) == (total is None)


def test_a_log_shows_life_where_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    console = log()
    with shown(Stage("a stage with a long name", 5), console) as stage:
        while text_of(console).count("\n") < 3:
            time.sleep(0.01)
        stage.add(5)
    lines = text_of(console).splitlines()
    assert set(lines[:3]) == {"a stage with a long name: 0 of 5 rows, 0 s so far"}
    assert lines[-1] == "a stage with a long name: 5 rows, 0 s"


def test_a_short_stage_is_one_line_and_an_empty_one_none() -> None:
    console = log()
    for total in (0, 2):
        with shown(Stage("encoding", total), console) as stage:
            stage.add(total)
    assert text_of(console) == "encoding: 2 rows, 0 s\n"


def test_a_failed_stage_says_nothing_more() -> None:
    console = log()
    with pytest.raises(ValueError, match="broken"), shown(Stage("encoding", 2), console):
        raise ValueError("broken")
    assert text_of(console) == ""


def test_other_ranks_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for rank, expected in ((1, ""), (0, "encoding: 2 rows, 0 s\n")):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank, **_: rank)
        console: Any = log()
        with shown(Stage("encoding", 2), console) as stage:
            stage.add(2)
        assert text_of(console) == expected
