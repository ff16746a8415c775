"""Config files: merging, reading, and what is said about bad ones."""

from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.cli.config import (
    Origin,
    merge_configs,
    read_config,
    read_configs,
    take_config_args,
)
from lit_unlearn.errors import InputError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": [1]}, {"a+": [2]}, {"a": [1, 2]}),
        ({}, {"a+": [2]}, {"a+": [2]}),
        ({"a+": [1]}, {"a+": [2]}, {"a+": [1, 2]}),
        ({"a": {"x": 1}, "b": 1}, {"a": None}, {"b": 1}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({}, {"a": None}, {"a": None}),
        ({"a": 1}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": 1}, {"a": 1}),
    ],
)
def test_merge(base: dict[str, Any], over: dict[str, Any], expected: dict[str, Any]) -> None:
    assert merge_configs(base, over) == expected


def test_merging_keeps_the_other_objectives() -> None:
    base = {"objectives": {"forget": {"class_path": "A"}, "retain": {"class_path": "B"}}}
    over = {"objectives": {"forget": {"init_args": {"beta": 2}}}}
    assert merge_configs(base, over) == {
        "objectives": {
            "forget": {"class_path": "A", "init_args": {"beta": 2}},
            "retain": {"class_path": "B"},
        }
    }


@pytest.mark.parametrize("name", ["A", "some.module.A"])
def test_same_class_keeps_its_arguments(name: str) -> None:
    base = {"o": {"class_path": "some.module.A", "init_args": {"x": 1}}}
    over = {"o": {"class_path": name, "init_args": {"y": 2}}}
    assert merge_configs(base, over)["o"]["init_args"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("name", ["B", "other.module.A", "moduleA"])
def test_another_class_drops_the_old_arguments(name: str) -> None:
    base = {"o": {"class_path": "some.module.A", "init_args": {"x": 1}}}
    over = {"o": {"class_path": name}}
    assert merge_configs(base, over) == over


def test_a_bare_class_name_can_be_given_arguments_later() -> None:
    merged = merge_configs({"o": "A"}, {"o": {"init_args": {"x": 1}}})
    assert merged == {"o": {"class_path": "A", "init_args": {"x": 1}}}


def test_merging_changes_neither_config() -> None:
    base, over = {"a": {"x": 1}, "l": [1]}, {"a": {"y": 2}, "l+": [2]}
    merge_configs(base, over)
    assert (base, over) == ({"a": {"x": 1}, "l": [1]}, {"a": {"y": 2}, "l+": [2]})


def test_merging_is_associative_where_nothing_is_removed() -> None:
    a, b, c = {"k": {"x": 1, "y": 1}}, {"k": {"y": 2}}, {"k": {"z": 3}, "m": 4}
    left = merge_configs(merge_configs(a, b), c)
    assert left == merge_configs(a, merge_configs(b, c))


@pytest.mark.parametrize(
    "args",
    [
        ["--config", "a.yaml", "--x=1", "--config=b.yaml", "--y", "2"],
        ["--x=1", "-c", "a.yaml", "--y", "2", "-c=b.yaml"],
    ],
)
def test_config_args_are_split_off(args: list[str]) -> None:
    assert take_config_args(args) == ([Path("a.yaml"), Path("b.yaml")], ["--x=1", "--y", "2"])


def test_config_without_a_name() -> None:
    with pytest.raises(InputError, match="--config: expected a value"):
        take_config_args(["--config"])


def test_numbers_and_strings(tmp_path: Path) -> None:
    """Plain PyYAML would give the strings "1e-5" and "2E3", and a date."""
    text = "a: 1e-5\nb: 2E3\nc: 2026-01-01\nd: .5\ne: 7\nf: '1e-5'\ng: true\nh: null\ni: -.inf\n"
    values = read_config(written(tmp_path / "c.yaml", text)).values
    assert values == {
        "a": 1e-5,
        "b": 2000.0,
        "c": "2026-01-01",
        "d": 0.5,
        "e": 7,
        "f": "1e-5",
        "g": True,
        "h": None,
        "i": float("-inf"),
    }


def test_json_is_read_as_well(tmp_path: Path) -> None:
    assert read_config(written(tmp_path / "c.json", '{"a": {"b": [1, 2.5e-3]}}')).values == {
        "a": {"b": [1, 2.5e-3]}
    }


def test_each_key_knows_its_file_and_line(tmp_path: Path) -> None:
    first = written(tmp_path / "a.yaml", "model:\n  lr: 1\n  rows:\n  - n: 1\n")
    second = written(tmp_path / "b.yaml", "\n\nmodel:\n  beta: 2\n  lr: 3\n")
    config = read_configs([first, second])
    assert config.values == {"model": {"lr": 3, "rows": [{"n": 1}], "beta": 2}}
    assert config.origin(("model", "lr")) == Origin(second, 5)
    assert config.origin(("model", "rows", "0", "n")) == Origin(first, 4)
    assert config.origin(("model", "beta", "deeper")) == Origin(second, 4)
    assert config.origin(("trainer",)) is None
    assert str(config.origin(("model", "lr"))) == f"{second}:5"


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"
    assert read_config(written(tmp_path / "c.yaml", text)).values["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys such as .*found an empty file"),
        ("- a\n- b\n", "found a list"),
        ("word", "found a str"),
        ("a: 1\nb: [1, 2\n", r"c.yaml:3: not valid YAML"),
        ("a: 1\n\tb: 2\n", r"c.yaml:2: not valid YAML"),
        ("a:\n  x: 1\n  y: 2\n  x: 3\n", r"c.yaml:4: key x is already set in line 2"),
        ("a: !!python/object:os.system {}\n", r"c.yaml:1: not valid YAML"),
        ("a: *unknown\n", r"c.yaml:1: not valid YAML"),
        ("a: 1\x00\n", "c.yaml: not valid YAML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config(written(tmp_path / "c.yaml", text))


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(InputError, match="not valid UTF-8 at byte 3"):
        read_config(tmp_path / "c.yaml")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


def test_missing_file_names_close_ones(tmp_path: Path) -> None:
    written(tmp_path / "quickstart.yaml", "a: 1")
    written(tmp_path / "tofu.yaml", "a: 1")
    with pytest.raises(InputError, match=r"no such file; did you mean quickstart.yaml\?"):
        read_config(tmp_path / "quickstrat.yaml")
    with pytest.raises(InputError, match=r"no such file; did you mean tofu.yaml\?"):
        read_config(tmp_path / "tofu")
    with pytest.raises(InputError, match=r"holds quickstart.yaml, tofu.yaml"):
        read_config(tmp_path / "zzz.yaml")
    with pytest.raises(InputError, match="there is no folder"):
        read_config(tmp_path / "nowhere" / "a.yaml")
