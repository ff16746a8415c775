"""Ledger: what was added is read, and every change of a byte or an entry is found and named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.requests.ledger import (
    LedgerEntry,
    add_entry,
    check_ledger,
    latest,
    read_ledger,
    request_folder,
)
from lit_unlearn.utils.append_log import log_line
from lit_unlearn.utils.locks import locked

COUNT = 4


def entry(number: int, manifest: str = "m") -> LedgerEntry:
    facts = (manifest * 64, "s", "e", "met", "2026-01-01T00:00:00+00:00")
    return LedgerEntry(f"request-{number}", f"folder-{number}", *facts)


def head_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.head")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    file = tmp_path / "ledger.jsonl"
    for number in range(1, COUNT + 1):
        assert add_entry(file, entry(number)) == number
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    file = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    for number in range(1, COUNT + 1):
        add_entry(file, entry(number))
    return file.read_bytes(), head_of(file).read_bytes()


def test_entries_are_read_in_their_order(ledger: Path) -> None:
    found = read_ledger(ledger)
    assert found == tuple(entry(number) for number in range(1, COUNT + 1))
    assert request_folder(ledger, found[0]) == ledger.parent / "folder-1"


@pytest.mark.parametrize("place", [Path, head_of])
def test_a_named_pipe_is_not_waited_for(ledger: Path, place: Callable[[Path], Path]) -> None:
    place(ledger).unlink()
    os.mkfifo(place(ledger))
    with pytest.raises(InputError, match=place(ledger).name):
        read_ledger(ledger)


def test_an_entry_is_added_once(ledger: Path) -> None:
    """A step that was killed after it added the entry adds it again."""
    before = ledger.read_bytes()
    assert add_entry(ledger, entry(2)) == 2
    assert ledger.read_bytes() == before


def test_a_request_that_was_carried_out_again_is_added(ledger: Path) -> None:
    again = entry(2, "n")
    assert add_entry(ledger, again) == COUNT + 1
    assert add_entry(ledger, again) == COUNT + 1
    found = read_ledger(ledger)
    assert found[1:2] + found[-1:] == (entry(2), again)
    assert latest(found) == [entry(1), again, entry(3), entry(4)]


def test_an_entry_waits_for_another_process(ledger: Path) -> None:
    """Two requests may end at the same time; neither is lost after its training."""
    waiting = Thread(target=add_entry, args=(ledger, entry(5)))
    with locked(ledger.with_suffix(".lock")):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        assert len(read_ledger(ledger)) == COUNT
    waiting.join(10)
    assert read_ledger(ledger)[-1] == entry(5)


def test_each_line_seals_the_one_before(ledger: Path) -> None:
    lines = ledger.read_bytes().splitlines(keepends=True)
    told = [json.loads(line)["previous"] for line in lines]
    assert told == ["0" * 64, *(hashlib.sha256(line).hexdigest() for line in lines[:-1])]


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(1, 255))
def test_any_changed_byte_is_found_and_its_entry_named(
    whole: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    content = bytearray(whole[0])
    at = place % len(content)
    content[at] ^= byte
    file = tmp_path_factory.getbasetemp() / "changed.jsonl"
    file.write_bytes(content)
    head_of(file).write_bytes(whole[1])
    number = whole[0].count(b"\n", 0, at) + 1
    with pytest.raises(InputError, match=rf"entry {number}\b"):
        read_ledger(file)


def _reordered(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], lines[3]]


def _forged(lines: list[bytes], at: int, /, **change: object) -> bytes:
    """Return an entry with another content, its number and the checksum of its line."""
    fields = json.loads(lines[at - 1])
    del fields["crc32"]
    return log_line(fields | change)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: lines[1:], "no entry 1"),
        (lambda lines: [lines[0], *lines[2:]], "no entry 2"),
        (lambda lines: lines[:-1], "no entry 4"),
        (lambda lines: [], "no entry 1"),
        (_reordered, r"entry 3 \(request 'request-3'\) in the place of entry 2"),
        (lambda lines: [*lines, lines[-1]], "entry 4 .* 2 times"),
        (lambda lines: [lines[0], *lines], "entry 1 .* 2 times"),
        (
            lambda lines: [
                *lines,
                _forged(lines, 4, number=5, key="x", previous=hashlib.sha256(lines[3]).hexdigest()),
            ],
            r"an additional entry 5 \(request 'x'\)",
        ),
        (lambda lines: [*lines, b'{"key": "cut'], "an additional entry 5"),
        (lambda lines: [*lines[:3], _forged(lines, 4, verdict="not met")], "entry 4 .* changed"),
        (
            lambda lines: [lines[0], _forged(lines, 2, verdict="not met"), *lines[2:]],
            "entry 2 .* changed",
        ),
        (
            lambda lines: [*lines[:2], _forged(lines, 3, previous="f" * 64), lines[3]],
            "entry 3 .* changed",
        ),
        (lambda lines: [_forged(lines, 1, previous="f" * 64), *lines[1:]], "entry 1 .* changed"),
        (lambda lines: [_forged(lines, 1, end=1), *lines[1:]], "entry 1 changed"),
        (lambda lines: [log_line({"key": "x"}), *lines[1:]], "entry 1 changed"),
        (lambda lines: [b"[" * 100_000 + b"\n", *lines[1:]], "entry 1 changed"),
    ],
)
def test_damage_is_named_by_its_entry(
    ledger: Path, change: Callable[[list[bytes]], list[bytes]], found: str
) -> None:
    before = ledger.read_bytes().splitlines(keepends=True)
    damaged = b"".join(change(before))
    ledger.write_bytes(damaged)
    for read in (lambda: read_ledger(ledger), lambda: add_entry(ledger, entry(9))):
        with pytest.raises(ChangedError, match=f"Found {found}"):
            read()
    assert ledger.read_bytes() == damaged


def test_a_kill_at_any_byte_of_an_append_loses_only_that_entry(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head says which line is being added, so that a part of it is no damage."""
    whole = ledger.read_bytes()
    head = json.loads(head_of(ledger).read_bytes())
    start = whole.rindex(b"\n", 0, -1) + 1
    last = {"entries": COUNT - 1, "last": json.loads(whole[start:])["previous"]}
    for length in range(start, len(whole) + 1):
        ledger.write_bytes(whole[:length])
        head_of(ledger).write_text(json.dumps({**last, "next": head["last"]}), "utf-8")
        kept = COUNT if length == len(whole) else COUNT - 1
        assert len(read_ledger(ledger)) == kept
    assert add_entry(ledger, entry(COUNT)) == COUNT
    assert json.loads(head_of(ledger).read_bytes()) == head  # else its removal is not noticed
    head_of(ledger).write_text(json.dumps({**last, "next": head["last"]}), "utf-8")
    ledger.write_bytes(whole[:-9])
    assert add_entry(ledger, entry(COUNT)) == COUNT
    assert (ledger.read_bytes(), json.loads(head_of(ledger).read_bytes())) == (whole, head)


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"entries": "4", "last": "", "next": ""}'])
def test_a_missing_or_damaged_head_is_named(ledger: Path, content: bytes | None) -> None:
    if content is None:
        head_of(ledger).unlink()
    else:
        head_of(ledger).write_bytes(content)
    with pytest.raises(ChangedError, match=r"ledger\.jsonl\.head should hold"):
        read_ledger(ledger)


def test_a_ledger_that_is_not_there(tmp_path: Path, ledger: Path) -> None:
    with pytest.raises(InputError, match=r"Ledger .*none\.jsonl should be a file"):
        read_ledger(tmp_path / "none.jsonl")
    ledger.unlink()  # its head is still there
    with pytest.raises(InputError, match="Found no entry 1"):
        add_entry(ledger, entry(9))


def test_a_second_request_of_an_id_is_refused_before_the_training(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the latest entry of an id is audited: the first request would never be asked again."""
    other = ledger.parent / "elsewhere"
    check_ledger(ledger, "request-1", other)  # the first one's folder is gone
    first = ledger.parent / "folder-1"
    first.mkdir()
    (first / "manifest.json").touch()
    check_ledger(ledger, "request-1", first)
    check_ledger(ledger, "request-9", other)
    with pytest.raises(InputError, match=r"Parameter `id` .*'request-1' in it.*change the id"):
        check_ledger(ledger, "request-1", other)


def test_a_ledger_that_cannot_be_written_is_refused_before_the_training(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_ledger(ledger.parent / "new" / "ledger.jsonl", "a", ledger.parent)
    with pytest.raises(InputError, match=r"`ledger` = .* should be a file that can be written"):
        check_ledger(ledger / "ledger.jsonl", "a", ledger.parent)
    with pytest.raises(InputError, match=r"should be readable\. Found: Is a directory"):
        check_ledger(ledger.parent, "a", ledger.parent)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path) == ledger)  # root may write
        with pytest.raises(InputError, match=f"{ledger.parent} refuses it"):
            check_ledger(ledger, "a", ledger.parent)  # its head is a new file in the folder
    ledger.unlink()
    with pytest.raises(InputError, match="no entry 1"):
        check_ledger(ledger, "a", ledger.parent)


def test_an_id_in_another_script(tmp_path: Path) -> None:
    made = replace(entry(1), request="\u8bf7\u6c42-1")
    add_entry(tmp_path / "ledger.jsonl", made)
    assert add_entry(tmp_path / "ledger.jsonl", entry(2)) == 2
    assert read_ledger(tmp_path / "ledger.jsonl") == (made, entry(2))


def test_an_id_that_leaves_the_folder_of_an_audit_is_refused(tmp_path: Path) -> None:
    add_entry(tmp_path / "ledger.jsonl", replace(entry(1), request="../../other"))
    with pytest.raises(InputError, match="entry 1 changed"):
        read_ledger(tmp_path / "ledger.jsonl")
