"""Options that change a config: `null` over a mapping, and elements of lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.cli.config import Config, Origin
from lit_unlearn.cli.overrides import lay_over
from lit_unlearn.errors import InputError

FILE = Origin(Path("a.yaml"), 3)
VALUES: dict[str, Any] = {
    "sources": [{"path": "a", "limit": 5}, {"path": "b"}],
    "names": ["x", "y"],
    "callbacks": [
        "Export",
        {"class_path": "Suites", "init_args": {"suites": {"one": {"class_path": "One"}}}},
        {"class_path": "Stop", "init_args": {"at": [{"step": 1}]}},
    ],
    "empty": [],
    "named": {"0": {"x": 1}},
}


def laid(*args: str) -> tuple[dict[str, Any], list[str]]:
    config, rest = lay_over(Config(VALUES, {("sources",): FILE}), args)
    return config.values, rest


@pytest.mark.parametrize(
    ("args", "key", "expected"),
    [
        (["--sources.0.limit", "2"], "sources", [{"path": "a", "limit": 2}, {"path": "b"}]),
        (
            ["--sources.1.limit=1e-1"],
            "sources",
            [{"path": "a", "limit": 5}, {"path": "b", "limit": 0.1}],
        ),
        (["--names.1=z"], "names", ["x", "z"]),
        (["--sources.0={path: c}"], "sources", [{"path": "c"}, {"path": "b"}]),
        (["--sources=[{path: c}]", "--sources.0.limit=2"], "sources", [{"path": "c", "limit": 2}]),
    ],
)
def test_an_element_is_set(args: list[str], key: str, expected: object) -> None:
    before = str(VALUES)
    values, rest = laid(*args, "--other", "1")
    assert values[key] == expected
    assert rest == ["--other", "1"]
    assert str(VALUES) == before


@pytest.mark.parametrize(
    ("arg", "place", "expected"),
    [
        (
            "--callbacks.0.dtype=bfloat16",
            0,
            {"class_path": "Export", "init_args": {"dtype": "bfloat16"}},
        ),
        (
            "--callbacks.1.suites.one.rows=3",
            1,
            {
                "class_path": "Suites",
                "init_args": {"suites": {"one": {"class_path": "One", "init_args": {"rows": 3}}}},
            },
        ),
        (
            "--callbacks.2.at.0.step=9",
            2,
            {"class_path": "Stop", "init_args": {"at": [{"step": 9}]}},
        ),
    ],
)
def test_classes_may_leave_out_init_args(arg: str, place: int, expected: object) -> None:
    assert laid(arg)[0]["callbacks"][place] == expected


def test_the_option_is_blamed_for_what_it_sets() -> None:
    config, _ = lay_over(Config(VALUES, {("sources",): FILE}), ["--sources.0.limit=two"])
    assert config.origin(("sources", "0", "limit")) == "--sources.0.limit"
    assert config.origin(("sources", "1", "path")) == FILE


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--sources.2.limit=1"], ["--sources.2.limit", "0 to 1", "found 2"]),
        (["--callbacks.3.x=1"], ["--callbacks.3.x", "0 to 2", "found 3"]),
        (["--empty.0.x=1"], ["--empty.0.x", "empty"]),
        (["--sources.limit=2"], ["--sources.limit", "a list of 2", "--sources.0.limit"]),
        (["--sources.-1.limit=2"], ["--sources.-1.limit", "0 to 1", "found -1"]),
        (["--sources.\u00b2.limit=2"], ["the number of an element, 0 to 1"]),
        (["--names.0"], ["--names.0: expected a value after it, found none"]),
        (["--callbacks.2.at.step=2"], ["--callbacks.2.at.step", "the number of an element"]),
    ],
)
def test_no_such_element(args: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        laid(*args)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "args",
    [
        ["--named.0.x=2"],
        ["--sources=[{path: c}]"],
        ["--callbacks+=Other", "--callbacks.every=2"],
        ["--callbacks.every=2"],
        ["--missing.0.x=2"],
    ],
)
def test_the_rest_is_the_parser_s(args: list[str]) -> None:
    values, rest = laid(*args)
    assert values == VALUES
    assert rest == args


def test_null_removes_a_mapping_and_nothing_else() -> None:
    values, rest = laid("--named=null", "--names", "null")
    assert "named" not in values
    assert rest == ["--names", "null"]
