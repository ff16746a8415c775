"""Hostile input is read, or refused with one message; the long version is fuzz_readers.py."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lit_unlearn.cli.config import read_config
from lit_unlearn.data.raw_rows import BadRows
from lit_unlearn.data.readers import parse_file
from lit_unlearn.errors import InputError
from tests.benchmark_scripts import benchmark

COUNTS = {
    "rows": 800,
    "parquet": 8,
    "templates": 120,
    "configs": 300,
    "cache": 400,
    "checkpoints": 400,
    "results": 400,
}
fuzz_readers = benchmark("fuzz_readers")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "fuzz"
    folder.mkdir()
    count = fuzz_readers.fuzz(name, COUNTS[name], 1, folder)
    assert count.inputs >= COUNTS[name]
    assert 0 < count.refused < count.inputs


def test_a_gzip_bomb() -> None:
    """A tenth of a megabyte that holds a hundred."""
    bomb = gzip.compress(bytes(10**8))
    with pytest.raises(InputError, match="more than 67108864 bytes packed into"):
        parse_file(bomb, "a.jsonl.gz", BadRows("error", "a"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"a": ' + "9" * 5000 + "}", "not JSON .Exceeds the limit"),
        (r'{"a": "\ud800"}', "surrogates not allowed"),
        ('{"a":' * 5000, "not JSON"),
    ],
)
def test_rows_that_python_reads_and_others_do_not(row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_file(row.encode(), "a.jsonl", BadRows("error", "a"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\n" * 1 + "c: *b\n", None),
        ("a: &a\n  b: *a\n", "at most 100000 values"),
        ("1: x\n", "a.yaml:1: expected a name before the colon, found 1"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: !!timestamp x\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_configs_that_yaml_reads_otherwise(tmp_path: Path, text: str, message: str | None) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text, "utf-8")
    if message is None:
        assert read_config(file).values["c"] == [["x", "x"], ["x", "x"]]
        return
    with pytest.raises(InputError, match=message):
        read_config(file)
