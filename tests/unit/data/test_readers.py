"""Rows of a file: the formats that can be read, and every kind of bad row."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

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
        ("rows.jsonl", b"\n \n", r"Found an empty file"),
        ("rows.csv", b"question,answer\n", r"Found an empty file"),
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
