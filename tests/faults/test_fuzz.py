"""Hostile input is read, or refused with one message; the long version is fuzz_readers.py."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from lit_unlearn.cli.config import read_config
from lit_unlearn.data.conversations import preference
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.data.raw_rows import BadRows, RawRow
from lit_unlearn.data.readers import parse_file
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.models.finding import find_model
from lit_unlearn.utils.chat_template import RECORD, recorded_template
from lit_unlearn.utils.digests import write_checked_json
from lit_unlearn.utils.ownership import MARKER, is_foreign
from tests.benchmark_scripts import benchmark

COUNTS = {"hub copies": 8, "save_to_disk": 30, "templates": 100, "parquet": 100}
"""Inputs of the dear readers; the others get 300."""
DEEP = "deeper than Python's stack"
fuzz_readers = benchmark("fuzz_readers")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "fuzz"
    folder.mkdir()
    inputs = COUNTS.get(name, 300)
    count = fuzz_readers.fuzz(name, inputs, 1, folder)
    assert count.inputs >= inputs
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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "should be texts"),
        ({"instruction": [], "input": "x", "chosen": "a", "rejected": "b"}, "whole conversations"),
    ],
)
def test_conversations_without_a_text(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preference(RawRow("0", {"chosen": "a", **row}, "a"), "a/0", "unified")


def test_a_broken_packed_parquet_file() -> None:
    with pytest.raises(InputError, match="broken gzip data"):
        parse_file(b"\x1f\x8b\x08", "a.parquet.gz", BadRows("error", "a"))


@pytest.mark.parametrize("text", ['["\\ud800"]', "[" * 5000])
def test_refusals_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        read_refusals(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", {"quantization_config": "int4"}, "quantised with int4"),
        ("config.json", {"architectures": {"a": 1}}, "no weights"),
        ("model.safetensors.index.json", {"weight_map": {"a": 3}}, "an unreadable model.safe"),
        ("model.safetensors.index.json", DEEP, "an unreadable model.safe"),
        ("adapter_config.json", {"base_model_name_or_path": "x" * 5000}, "the adapters' base"),
        ("adapter_config.json", {"base_model_name_or_path": "FOLDER"}, "Found the folder itself"),
        ("adapter_config.json", {"base_model_name_or_path": "no name/of a hub"}, "adapters of"),
    ],
)
def test_models_whose_small_files_are_odd(
    tmp_path: Path, name: str, content: object, message: str
) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    text = "[" * 5000 if content == DEEP else json.dumps(content)
    text = text.replace("FOLDER", str(tmp_path))
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        find_model(str(tmp_path))


def test_recorded_settings_of_another_type() -> None:
    with pytest.raises(InputError, match="Found arguments: 3; export the model again"):
        recorded_template({RECORD: {"system": "S", "arguments": 3}})


def test_a_log_and_a_marker_that_were_made_on_purpose(tmp_path: Path) -> None:
    log = Store(tmp_path)
    log.path.write_bytes(b'{"key": "a", "crc32": %s}\n' % (b"9" * 5000))
    with pytest.raises(InputError, match="should match its CRC-32"), log:
        pass
    write_checked_json(tmp_path / MARKER, {"a.txt": 3, "b.txt": [{}, []]})
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("mine", "utf-8")
        assert is_foreign(tmp_path / name)


def test_a_saved_data_set_that_is_cut_off(tmp_path: Path) -> None:
    """A mapped file would end the whole process; so this reads it in memory."""
    rows = datasets.Dataset.from_dict({"question": ["Who?"] * 999, "answer": ["Me."] * 999})
    rows.save_to_disk(str(tmp_path / "saved"))
    (file,) = (tmp_path / "saved").glob("*.arrow")
    whole = file.read_bytes()
    assert len(read_rows(Source(str(tmp_path / "saved")))) == 999
    for length in range(0, len(whole) - 100, len(whole) // 9):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match="should be a part of the data set"):
            read_rows(Source(str(tmp_path / "saved")))
