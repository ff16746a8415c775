"""Sources: where rows are found, and which of them are chosen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import datasets
import jsonargparse
import pyarrow
import pyarrow.parquet
import pytest

from lit_unlearn.data.sources import Source, read_rows, resolve
from lit_unlearn.errors import InputError

QA = {"question": "Who?", "answer": "Nobody."}


@pytest.fixture(autouse=True)
def _no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_UNLEARN_DATA", raising=False)


def write_lines(file: Path, *rows: object) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def fake_hub(monkeypatch: pytest.MonkeyPatch, answer: object) -> list[tuple[object, ...]]:
    """Puts a `datasets` in place that answers or raises, and returns the calls it gets."""
    calls: list[tuple[object, ...]] = []

    def load_dataset(path: str, config: str | None, *, split: str) -> object:
        calls.append((path, config, split))
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


# --------------------------------------------------------------------------------- where rows are


@pytest.mark.parametrize(
    ("file", "config", "split"),
    [
        ("forget10.jsonl", "forget10", "train"),
        ("forget10/train.jsonl", "forget10", "train"),
        ("knowmem_forget.jsonl", "knowmem", "forget"),
        ("train.jsonl", None, "train"),
    ],
)
def test_layouts_of_a_local_folder(
    tmp_path: Path, file: str, config: str | None, split: str
) -> None:
    write_lines(tmp_path / file, QA)
    assert resolve(Source(str(tmp_path), config, split)).file == tmp_path / file


def test_a_local_folder_without_the_file_names_what_it_should_hold(tmp_path: Path) -> None:
    expected = r"forget10/train, forget10_train, forget10.*correct `path`, `config` or `split`"
    with pytest.raises(InputError, match=expected):
        resolve(Source(str(tmp_path), "forget10"))


@pytest.fixture
def hub_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub gives it to download: parquet files in parts, named in README.md."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "root" / "cais" / "wmdp"
    folder.joinpath("wmdp-bio").mkdir(parents=True)
    folder.joinpath("README.md").write_text(
        "---\nconfigs:\n- config_name: wmdp-bio\n  data_files:\n  - split: test\n"
        "    path: wmdp-bio/test-*\n---\n"
    )
    for part in (0, 1):
        row = {"question": [f"q{part}"], "choices": [["a", "b"]], "answer": [part]}
        file = folder / "wmdp-bio" / f"test-0000{part}-of-00002.parquet"
        pyarrow.parquet.write_table(pyarrow.table(row), file)
    return folder


def test_a_downloaded_copy_of_a_hub_data_set(hub_copy: Path) -> None:
    """By its path, and by its hub id under a data root; then what is known of it counts too."""
    by_path = read_rows(Source(str(hub_copy), "wmdp-bio", "test"))
    by_name = read_rows(Source("cais/wmdp", "wmdp-bio", "test"), hub_copy.parents[1])
    assert [row.values["question"] for row in by_path] == ["q0", "q1"]
    assert [row.values for row in by_name] == [row.values for row in by_path]
    place = resolve(Source("cais/wmdp", "wmdp-bio", "test"), hub_copy.parents[1])
    assert place.domain == "multiple_choice"
    assert place.folder == hub_copy


def test_a_wrong_part_of_a_downloaded_copy(hub_copy: Path) -> None:
    for config, split, found in (
        ("bio", "test", "'bio' not found"),
        ("wmdp-bio", "train", "split"),
    ):
        with pytest.raises(InputError, match=rf"{found}.*Correct `path`, `config` or `split`"):
            read_rows(Source(str(hub_copy), config, split))


def test_data_root_by_argument_and_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known benchmarks have their own file, others the generic layout of their hub id."""
    write_lines(tmp_path / "tofu" / "forget05.json", QA, QA)
    write_lines(tmp_path / "somebody" / "set" / "part" / "test.jsonl", QA)
    assert len(read_rows(Source("locuslab/TOFU", "forget05"), tmp_path)) == 2
    assert len(read_rows(Source("LocusLab/tofu", "forget05"), tmp_path)) == 2
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(tmp_path))
    assert len(read_rows(Source("somebody/set", "part", "test"))) == 1
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"`LIT_UNLEARN_DATA` should be an existing folder"):
        resolve(Source("somebody/set"))


def test_a_known_benchmark_in_the_generic_layout_of_the_hub(tmp_path: Path) -> None:
    """A copy of the hub's own layout works too, and keeps what is known of the data set."""
    file = tmp_path / "cais" / "wmdp" / "wmdp-bio" / "test.jsonl"
    write_lines(file, {"question": "q", "choices": ["a", "b"], "answer": 0})
    place = resolve(Source("cais/wmdp", "wmdp-bio", "test"), tmp_path)
    assert (place.file, place.domain) == (file, "multiple_choice")


def test_the_hub_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_hub(monkeypatch, [QA, {**QA, "question": "Where?"}])
    rows = read_rows(Source("locuslab/TOFU", "forget01"), tmp_path)
    assert calls == [("locuslab/TOFU", "forget01", "train")]
    assert [row.row_id for row in rows] == ["0", "1"]
    assert rows[1].location == "locuslab/TOFU[forget01/train] row 1"


def test_unreachable_hub_says_what_was_tried_and_both_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub(monkeypatch, ConnectionError("Couldn't reach the Hub\nsecond line"))
    with pytest.raises(InputError) as caught:
        read_rows(Source("locuslab/TOFU", "forget10"), tmp_path)
    message = str(caught.value)
    assert f"no file {tmp_path}/tofu/forget10.json" in message
    assert f"{tmp_path}/locuslab/TOFU/forget10/train.json" in message
    assert "Couldn't reach the Hub" in message
    assert "second line" not in message
    assert "connect to the network" in message
    assert "put that file there" in message
    with pytest.raises(InputError, match=r"set `data_root` to a folder that holds tofu/forget10"):
        read_rows(Source("locuslab/TOFU", "forget10"))
    with pytest.raises(InputError, match=r"holds somebody/set/train\.json"):
        read_rows(Source("somebody/set"))


def test_the_real_hub_client_without_network() -> None:
    """conftest sets HF_HUB_OFFLINE, so that the client answers at once."""
    with pytest.raises(InputError, match=r"Found no local .*the Hugging Face hub: .*locuslab/TOFU"):
        read_rows(Source("locuslab/TOFU", "forget05"))


def test_a_wrong_split_of_a_known_data_set_lists_the_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_hub(monkeypatch, ValueError('Unknown split "train". Should be one of ["test"].'))
    with pytest.raises(InputError, match=r"Known parts of cais/wmdp: config=wmdp-bio split=test"):
        read_rows(Source("cais/wmdp", "wmdp-bio"))


def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names the file 'folder/rows\.jsonl'.*no such file"):
        resolve(Source("folder/rows.jsonl"), tmp_path)
    with pytest.raises(InputError, match=r"working folder\. Found"):
        resolve(Source("folder/rows.jsonl"))


def test_a_file_of_another_type(tmp_path: Path) -> None:
    file = tmp_path / "rows.xlsx"
    file.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"\.json, \.jsonl, \.csv, .*\.parquet.*convert the file"):
        resolve(Source(str(file)))


def test_built_in_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": f"r{n}", "split": s, **QA} for n, s in enumerate(["train", "eval", "train"])]
    write_lines(tmp_path / "builtin" / "forget.jsonl", *rows)
    monkeypatch.setattr("lit_unlearn.data.places.resources.files", lambda _: tmp_path)
    assert [row.row_id for row in read_rows(Source("builtin:forget"))] == ["r0", "r2"]
    assert [row.row_id for row in read_rows(Source("builtin:forget", split="eval"))] == ["r1"]
    assert resolve(Source("builtin:forget")).domain == "question_answer"
    with pytest.raises(InputError, match=r"did you mean builtin:forget"):
        resolve(Source("builtin:forgot"))
    with pytest.raises(InputError, match=r"'split' is 'trian'.*did you mean train"):
        read_rows(Source("builtin:forget", split="trian"))


# -------------------------------------------------------------------------------- what is chosen


def numbered(tmp_path: Path, count: int = 6) -> str:
    rows = [{**QA, "n": n, "kind": "even" if n % 2 == 0 else "odd"} for n in range(count)]
    return write_lines(tmp_path / "rows.jsonl", *rows)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["0", "1", "2", "3", "4", "5"]),
        ({"limit": 2}, ["0", "1"]),
        ({"limit": 2, "offset": 3}, ["3", "4"]),
        ({"limit": 2, "offset": 1, "every": 2}, ["1", "3"]),
        ({"where": {"kind": ["odd"]}}, ["1", "3", "5"]),
        ({"where": {"kind": ["odd"]}, "offset": 1, "limit": 1}, ["3"]),
        ({"where": {"n": ["1", "4"]}}, ["1", "4"]),
    ],
)
def test_limit_offset_where(tmp_path: Path, options: dict, expected: list[str]) -> None:
    """`where` comes first, then `offset`, then `limit`; ids stay those of the whole file."""
    rows = read_rows(Source(numbered(tmp_path), **options))
    assert [row.row_id for row in rows] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": 6}, r"rows from `offset` 6 on\. Found 6 usable rows.*lower `offset`"),
        ({"where": {"kind": ["od"]}}, r"'kind' is 'od'.*did you mean odd"),
        ({"where": {"knd": ["odd"]}}, r":1: `where` names the column 'knd'.*did you mean kind"),
        ({"where": {"kind": ["odd"], "n": ["2"]}}, r"should have rows whose 'n' is '2'"),
        ({"columns": {"question": "frage"}}, r"`columns` names the column 'frage'"),
    ],
)
def test_a_choice_that_leaves_nothing(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(Source(numbered(tmp_path), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": " "}, "`path` of a source"),
        ({"path": "x", "limit": 0}, "`limit` at least 1 or null"),
        ({"path": "x", "offset": -1}, "`offset` should be at least 0"),
        ({"path": "x", "every": 0}, "`every` at least 1"),
        ({"path": "x", "columns": {"question": ""}}, "only `answer` may have"),
    ],
)
def test_bad_parameters(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Source(**options)


def test_columns_rename_and_mark_questions_alone(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", {"prompt": "Who?", "kind": "x"})
    source = Source(file, columns={"question": "prompt", "answer": ""}, where={"kind": ["x"]})
    (row,) = read_rows(source)
    assert row.values == {"prompt": "Who?", "kind": "x", "question": "Who?"}
    assert row.answerless


def test_completions_that_are_labelled_as_bad_are_no_answers(tmp_path: Path) -> None:
    """Rows for KTO have one completion each, a good or a bad one."""
    rows = [{"prompt": "a", "completion": str(label), "label": label} for label in (True, False)]
    file = write_lines(tmp_path / "kto.jsonl", *rows)
    with pytest.raises(InputError, match=r"kto\.jsonl:2: label false .*`where: \{label: \['True'"):
        read_rows(Source(file))
    assert [r.row_id for r in read_rows(Source(file), on_bad_row="skip")] == ["0"]
    for wanted, row_id in (("true", "0"), ("False", "1")):
        found = read_rows(Source(file, where={"label": [wanted]}))
        assert [r.row_id for r in found] == [row_id]


def test_own_ids_only_where_they_are_unique(tmp_path: Path) -> None:
    unique = write_lines(tmp_path / "a.jsonl", {"id": 7, **QA}, {"id": "b", **QA})
    repeated = write_lines(tmp_path / "b.jsonl", {"id": 7, **QA}, {"id": 7, **QA})
    partial = write_lines(tmp_path / "c.jsonl", {"id": 7, **QA}, QA)
    assert [row.row_id for row in read_rows(Source(unique))] == ["7", "b"]
    assert [row.row_id for row in read_rows(Source(repeated))] == ["0", "1"]
    assert [row.row_id for row in read_rows(Source(partial))] == ["0", "1"]


def test_the_command_line_builds_sources_and_shows_their_help() -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=Source)
    parsed = parser.parse_args(["--source.path=x", "--source.where={label: [safe]}"])
    source = parser.instantiate_classes(parsed).source
    assert source == Source("x", where={"label": ["safe"]})
    assert "only questions" in " ".join(parser.format_help().split())


# --------------------------------------------------------------------- folders of `save_to_disk`


def test_a_saved_data_set(tmp_path: Path) -> None:
    """A data set, a dictionary of splits, and a configuration in a folder of its own."""
    rows = datasets.Dataset.from_list([QA, {"question": "x", "answer": "y"}])
    rows.save_to_disk(str(tmp_path / "one"))
    both = tmp_path / "both"
    splits = datasets.DatasetDict({"train": rows, "test": rows.select([1])})
    splits.save_to_disk(str(both / "small"))
    assert [row.values for row in read_rows(Source(str(tmp_path / "one")))] == list(rows)
    (row,) = read_rows(Source(str(both), config="small", split="test"))
    assert (row.values, row.location) == (rows[1], f"{both}[small/test] row 0")
    with pytest.raises(InputError, match=r"Found only train, test; set `split`"):
        read_rows(Source(str(both), config="small", split="dev"))
    (tmp_path / "one" / "state.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"should be a part of the data set in .*one"):
        read_rows(Source(str(tmp_path / "one")))


def test_a_folder_of_parquet_files_and_a_single_one(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([QA])
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    for path in (tmp_path, tmp_path / "train.parquet"):
        assert [row.values for row in read_rows(Source(str(path)))] == [QA]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"broken\.parquet should be a parquet file"):
        read_rows(Source(str(tmp_path / "broken.parquet")))
