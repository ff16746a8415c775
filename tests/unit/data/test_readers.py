"""Rows of a file: the formats that can be read, and every kind of bad row."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.errors import InputError

QA = {"question": "Who?", "answer": "Nobody."}


def test_arrays_lines_and_gzip_give_the_same_rows(tmp_path: Path) -> None:
    rows = [QA, {"question": "a\u0085b\u2028c", "answer": "\u00e9"}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    contents = {
        "array.json": json.dumps(rows).encode(),
        "lines.json": lines.encode(),
        "crlf.jsonl": lines.replace("\n", "\r\n").encode(),
        "bom.jsonl": b"\xef\xbb\xbf" + lines.encode(),
        "blank.jsonl": b"\n" + lines.encode() + b"\n\n",
        "packed.jsonl.gz": gzip.compress(lines.encode()),
        "table.csv": 'question,answer\nWho?,Nobody.\n"a\u0085b\u2028c",\u00e9\n'.encode(),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        assert [row.values for row in read_rows(Source(str(tmp_path / name)))] == rows, name


def test_csv_cells_may_span_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('question,answer\n"two\nlines",x\nnext,y\n', "utf-8")
    rows = read_rows(Source(str(file)))
    assert rows[0].values["question"] == "two\nlines"
    assert [row.location for row in rows] == [f"{file}:2", f"{file}:4"]


def test_text_gives_a_row_per_line_that_is_not_blank(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"first\r\n \nsecond")
    rows = read_rows(Source(str(file)))
    assert [row.values for row in rows] == [{"text": "first"}, {"text": "second"}]
    assert rows[1].location == f"{file}:3"


def test_tables_of_other_formats(tmp_path: Path) -> None:
    """A parquet file, tab-separated cells, JSON under a key, and one row over several lines."""
    table = pyarrow.Table.from_pylist([QA, {"question": "x", "answer": "y"}])
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    rows = table.to_pylist()
    contents = {
        "rows.tsv": b"question\tanswer\nWho?\tNobody.\nx\ty\n",
        "bom.csv": b"\xef\xbb\xbfquestion,answer\r\nWho?,Nobody.\r\nx,y\r\n",
        "squad.json": json.dumps({"version": "1.1", "data": rows}).encode(),
        "pretty.json": json.dumps({"rows": rows}, indent=2).encode(),
        "nested.json": json.dumps({"data": {"train": rows}}).encode(),
        "data.jsonl": json.dumps({"data": rows}).encode(),
        "ids.json": json.dumps(dict(zip("ab", rows, strict=True))).encode(),
        "packed.tsv.gz": gzip.compress(b"question\tanswer\nWho?\tNobody.\nx\ty\n"),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    for name in ("rows.parquet", *contents):
        assert [row.values for row in read_rows(Source(str(tmp_path / name)))] == rows, name
    (tmp_path / "one.json").write_text(json.dumps(QA, indent=2), "utf-8")
    assert [row.values for row in read_rows(Source(str(tmp_path / "one.json")))] == [QA]


def test_a_row_that_holds_objects_is_a_row(tmp_path: Path) -> None:
    """One conversation in a file is no table of messages."""
    row = {"messages": [{"role": "user", "content": "Hi?"}], "tags": [{"a": 1}]}
    (tmp_path / "rows.json").write_text(json.dumps(row), "utf-8")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"x": 1, "tags": [{"a": 1}]}), "utf-8")
    (found,) = read_rows(Source(str(tmp_path / "rows.json")))
    assert (found.values, found.location) == (row, f"{tmp_path / 'rows.json'}:1")
    assert read_rows(Source(str(tmp_path / "rows.jsonl")))[0].values["x"] == 1


def test_an_object_of_several_splits(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"train": [QA], "test": [{"question": "x"}]}), "utf-8")
    assert read_rows(Source(str(file), split="test"))[0].values == {"question": "x"}
    with pytest.raises(InputError, match=r"rows under 'train', 'test'; set `split`"):
        read_rows(Source(str(file), split="dev"))


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text\n" + "word " * 40_000 + "\n", "utf-8")
    assert len(read_rows(Source(str(file)))[0].values["text"]) == 200_000


def test_columns_and_keys_that_stand_twice(tmp_path: Path) -> None:
    (tmp_path / "dup.csv").write_text("question,answer, answer\nWho?,right,wrong\n", "utf-8")
    twice = pyarrow.table([["Who?"], ["right"], ["wrong"]], names=["question", "answer", "answer"])
    pyarrow.parquet.write_table(twice, tmp_path / "dup.parquet")
    for name in ("dup.csv", "dup.parquet"):
        with pytest.raises(
            InputError, match=rf"{name} should have .*Found 'answer' more than once"
        ):
            read_rows(Source(str(tmp_path / name)))
    (tmp_path / "blank.csv").write_text("question,answer,,\nWho?,right,,\n", "utf-8")
    assert read_rows(Source(str(tmp_path / "blank.csv")))[0].values["answer"] == "right"
    file = tmp_path / "dup.jsonl"
    file.write_text('{"answer": "right", "answer": "wrong"}\n' + json.dumps(QA), "utf-8")
    with pytest.raises(InputError, match=r"dup\.jsonl:1: should have each key once"):
        read_rows(Source(str(file)))
    assert [row.values for row in read_rows(Source(str(file)), None, "skip")] == [QA]
    file.write_text('{"messages": [{"role": "user", "content": "a", "content": "b"}]}', "utf-8")
    with pytest.raises(InputError, match=r"dup\.jsonl:1: should have each key once.*role, content"):
        read_rows(Source(str(file)))


# --------------------------------------------------------------------------------------- bad rows

GOOD_LINE = json.dumps(QA).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rows.jsonl", GOOD_LINE + b"{broken\n" + GOOD_LINE, r"rows\.jsonl:2: not JSON"),
        ("rows.jsonl", GOOD_LINE + b"42\n", r"rows\.jsonl:2: should be a JSON object.*int 42"),
        ("rows.json", b'[{"question": "q"}, "x"]', r"rows\.json row 1: should be a JSON object"),
        ("rows.csv", b"question,answer\na,b,c\nd,e\n", r"rows\.csv:2: should have the 2 cells"),
    ],
)
def test_bad_rows_stop_or_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, data: bytes, message: str
) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_rows(Source(str(file)))
    with caplog.at_level(logging.WARNING):
        rows = read_rows(Source(str(file)), on_bad_row="skip")
    assert rows
    (record,) = caplog.records
    assert record.getMessage().startswith("Skipped 1 bad row of")


def test_the_warning_counts_all_and_shows_three_reasons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD_LINE + b"{\n" * 5)
    read_rows(Source(str(file)), on_bad_row="skip")
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("Skipped 5 bad rows of")
    assert [f"rows.jsonl:{n}:" in text for n in (2, 3, 4, 5)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("rows.json", b'[\n{"question": 1},\n{]', r"rows\.json line 3: should be one JSON array"),
        ("rows.jsonl.gz", GOOD_LINE, r"rows\.jsonl\.gz should be gzip-compressed.*take `\.gz` off"),
        ("rows.jsonl.gz", gzip.compress(GOOD_LINE * 9)[:-12], r"broken gzip data"),
        ("rows.jsonl", gzip.compress(GOOD_LINE), r"Found gzip data; add `\.gz`"),
        ("rows.jsonl", GOOD_LINE + b'{"question": "\xe9"}', r"UTF-8\. Found byte 0xe9 in line 2"),
        ("rows.jsonl", '{"question": "é"}'.encode("utf-16"), r"`iconv -f UTF-16 -t UTF-8`"),
        ("rows.csv", b'question,answer\n"open,x\n', r"rows\.csv line 2: should be comma-separated"),
        ("rows.jsonl", b"\n \n", r"should hold rows. Found none"),
        ("rows.csv", b"question,answer\n", r"should hold rows. Found none"),
        ("rows.csv", b"question;answer\na;b\n", r"should have ',' between its columns"),
        ("rows.tsv", b"question,answer\na,b\n", r"should have '\\t' between its columns"),
    ],
)
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_broken_file_is_always_an_error(
    tmp_path: Path, name: str, data: bytes, message: str, policy: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_rows(Source(str(tmp_path / name)), on_bad_row=policy)


def test_skipping_every_row_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"{\n{\n")
    with pytest.raises(InputError, match=r"0 usable rows and 2 bad ones; Bad row at .*:1: not"):
        read_rows(Source(str(tmp_path / "rows.jsonl")), on_bad_row="skip")


def test_an_unknown_policy(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(GOOD_LINE)
    with pytest.raises(InputError, match=r"`on_bad_row` should be error or skip\. Found 'ignore'"):
        read_rows(Source(str(tmp_path / "rows.jsonl")), on_bad_row="ignore")
