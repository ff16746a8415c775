"""Tables as wide as the terminal, in which everything is text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from lit_unlearn.utils.tables import WIDTH, add_row, print_paths, table, terminal

COLUMNS = ("[red]name", "note", "figure")
ROWS = [("forget ~ neighbor", "[bold]a note of several words in a narrow place", "0.51 [0.4, 0.6]")]


def shown(width: int = 80, **settings: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    made = table("[b]title", COLUMNS, ROWS, caption="[i]caption", **settings)  # type: ignore[arg-type]
    add_row(made, ["short", Text("own", "bold")])
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_markup_is_text() -> None:
    text = "\n".join(shown(100))
    for part in ("[b]title", "[red]name", "[bold]a note", "0.51 [0.4, 0.6]", "[i]caption", "own"):
        assert part in text


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut_off(width: int) -> None:
    lines = shown(width)
    assert max(map(len, lines)) <= width
    words = "".join(lines).replace("\u2502", " ").split()
    assert not any("\u2026" in word for word in words)


def test_fixed_columns_stay_on_one_line() -> None:
    assert any("forget ~ neighbor" in line for line in shown(60, fixed=(0, 2)))
    assert any("0.51 [0.4, 0.6]" in line for line in shown(60, fixed=(0, 2)))


def test_figures_are_aligned_to_the_right() -> None:
    head = next(line for line in shown(100, left=2) if "figure" in line)
    assert head.endswith("         figure \u2503")


def test_the_width_is_that_of_columns_or_wide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
    assert terminal().width == terminal(stderr=True).width == WIDTH
    monkeypatch.setenv("COLUMNS", "73")
    assert terminal().width == 73
    terminal(stderr=True).print("[b]text")
    assert capsys.readouterr().err == "[b]text\n"


def test_paths_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    print_paths(terminal(), {"page": "x" * 200})
    assert capsys.readouterr().out == f"page: {'x' * 200}\n"
