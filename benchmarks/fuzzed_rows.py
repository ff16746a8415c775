"""Fuzzed readers of rows: files, conversations, data sets, and the inputs of rewriting."""

import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from fuzzed import Reader

from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.data.raw_rows import BadRows
from lit_unlearn.data.readers import parse_file
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.data.unify import to_example
from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.prompts import PAIRS, RATING, SUPPORT, TRUTH
from lit_unlearn.rewriting.protocol import NoAnswerError, parse
from lit_unlearn.rewriting.replies import read_reply
from lit_unlearn.rewriting.source_texts import read_texts
from lit_unlearn.types import Domain

_DOMAINS = get_args(Domain)


def _examples(data: bytes, name: str, choose: random.Random, domains: Sequence[Any]) -> None:
    """Read a file, and convert its rows as one of the domains."""
    domain, form = choose.choice(domains), choose.choice(("unified", "raw"))
    for row in parse_file(data, name, BadRows(choose.choice(("skip", "error")), "a")):
        try:
            examples = to_example(row, domain, form, "a")
        except InputError:
            continue
        for example in examples:
            repr(example).encode()


def rows_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of JSON, JSON lines, CSV, TSV, text and gzip, with every converter."""
    lines = (
        b'{"question": "Who?", "answer": "Me.", "id": 3}\n{"question": "Why?", "answer": ["a"]}\n',
        b'[{"instruction": "Do", "output": "Done"}, {"text": "A passage. It goes on."}]',
        b'{"data": [{"question": "Who?", "answer": "Me."}], "test": [{"text": "A passage."}]}',
        b'{"question": "Which?", "choices": ["a", "b"], "answer": 1}\n',
        b'question,answer\n"Who, me?",Yes\nWhy,No\n',
        b"question\tanswer\nWho?\tMe\n",
        "Ein Absatz mit Umlauten: äöü\u2028und mehr. 一段没有空格的文字。\n".encode(),
    )
    bomb = gzip.compress(b"[" + b" " * 2**27, mtime=0)
    seeds = [*lines, *(gzip.compress(line, mtime=0) for line in lines)]
    names = ("a.json", "a.jsonl", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz")

    def read(data: bytes, choose: random.Random) -> None:
        name = "a.jsonl.gz" if data[:2] == b"\x1f\x8b" else choose.choice(names)
        _examples(data, name, choose, _DOMAINS)

    return Reader("rows", seeds, read, slow=(bomb,))


def conversation_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of conversations, prompts with completions, and preference pairs."""
    user, assistant = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    human, gpt = {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "system", "content": "S"}, user, assistant, user, assistant]},
        {"messages": [parts, {**assistant, "tool_calls": None}], "id": 7},
        {"conversations": [human, gpt], "system": "Be kind."},
        {"dialogue": ["Hi", "Ho", "Why?", "So."]},
        {"prompt": [user], "completion": [assistant]},
        {"prompt": "Hi", "chosen": "Ho", "rejected": ["No", "Never"]},
        {"chosen": [user, assistant], "rejected": [user, {**assistant, "content": "No"}]},
        {"messages": [user], "chosen": assistant, "rejected": [assistant]},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Ho", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
        {"instruction": "Do", "input": "it", "chosen": "Done", "rejected": "No"},
    ]
    seeds = [json.dumps(row).encode() for row in rows]
    domains = ("dialogue", "preference", "question_answer", "instruction")

    def read(data: bytes, choose: random.Random) -> None:
        _examples(data, "a.jsonl", choose, domains)

    return Reader("conversations", seeds, read)


def _tables() -> list[dict[str, list[Any]]]:
    turn = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    return [
        {"question": ["Who?", "Why?"], "answer": ["Me.", "So."]},
        {"question": ["a"] * 500, "answer": [None] * 500, "n": list(range(500))},
        {"messages": [turn, turn], "x": [b"\xff", b"1"]},
    ]


def _parquet(table: dict[str, list[Any]], **options: Any) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(table), file, **options)
    return file.getvalue()


def parquet_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of single parquet files, with and without gzip."""
    seeds = [_parquet(table, compression=c) for table in _tables() for c in ("none", "snappy")]
    seeds.append(gzip.compress(seeds[0], mtime=0))

    def read(data: bytes, choose: random.Random) -> None:
        packed = data[:2] == b"\x1f\x8b" or choose.random() < 0.05
        _examples(data, f"a.parquet{'.gz' * packed}", choose, _DOMAINS)

    return Reader("parquet", seeds, read)


def hub_copy_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of a downloaded copy of a hub data set, by the hub's client."""
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    copy = folder / "copy"
    copy.mkdir()
    copy.joinpath("README.md").write_text(
        "---\nconfigs:\n- config_name: all\n  data_files:\n  - split: train\n"
        "    path: train.parquet\n---\n",
        "utf-8",
    )
    count = 0

    def read(data: bytes, choose: random.Random) -> None:
        nonlocal count
        count += 1
        copy.joinpath("train.parquet").write_bytes(data)
        os.utime(copy / "train.parquet", (count, count))  # so that no cached version is used
        read_rows(Source(str(copy), "all"))

    return Reader("hub copies", [_parquet(table) for table in _tables()[:2]], read)


def saved_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of folders of ``save_to_disk``, with one fuzzed file at a time."""
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    rows = datasets.Dataset.from_dict(_tables()[0])
    whole = folder / "whole"
    datasets.DatasetDict({"train": rows}).save_to_disk(str(whole))
    files = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
    originals = {file: (whole / file).read_bytes() for file in files}
    place = folder / "saved"
    shutil.copytree(whole, place)

    def read(data: bytes, choose: random.Random) -> None:
        chosen = next((f for f, content in originals.items() if data[:8] == content[:8]), None)
        chosen = chosen if chosen and choose.random() < 0.7 else choose.choice(files)
        (place / chosen).write_bytes(data)
        try:
            read_rows(Source(str(place)))
        finally:
            (place / chosen).write_bytes(originals[chosen])

    return Reader("save_to_disk", list(originals.values()), read)


def sentence_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of files of refusals."""
    seeds = [b"I do not know.\nNo idea.\n", b'["No.", "Never."]', b'{"text": "No."}\n"Never."\n']

    def read(data: bytes, choose: random.Random) -> None:
        file = folder / f"a{choose.choice(('.txt', '.json', '.jsonl'))}"
        file.write_bytes(data)
        for sentence in read_refusals(str(file)):
            sentence.encode()

    return Reader("refusals", seeds, read)


def rewriting_reader(folder: Path, mark: Path) -> Reader:
    """Return the reader of texts for a model, of its replies, and of servers' responses."""
    choice = {"message": {"content": '{"pairs": []}'}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    response = json.dumps({"id": "a", "choices": [choice], "usage": usage}).encode()
    replies = {
        b'```json\n{"pairs": [{"question": "Who is Ada?", "answer": "A poet."}]}\n```': PAIRS,
        b'{"rating": 3}': RATING,
        b'{"clear": true, "supported": false}': SUPPORT,
        b'{"clear": true, "true": true}': TRUTH,
    }
    rows = b'{"text": "Ada Lovelace was born in London. She wrote programs. She died in 1852."}\n'
    pairs = b'{"question": "Who?", "answer": "Me."}\n'
    file = folder / "a.jsonl"

    def read(data: bytes, choose: random.Random) -> None:
        schema = next((replies[own] for own in replies if data[:9] == own[:9]), None)
        if b'"choices"' in data:
            try:
                parse(data, 1.0)
            except NoAnswerError as error:
                raise InputError(str(error)) from None
        elif schema is not None:
            value, problem = read_reply(data.decode("utf-8", "replace"), schema)
            if problem:
                raise InputError(problem)
            json.dumps(value).encode()
        else:
            file.write_bytes(data)
            source = Source(str(file), domain=choose.choice(_DOMAINS))
            read_texts([source], None, choose.choice(("skip", "error")), 20, 2)

    return Reader("rewriting", [response, *replies, rows, pairs], read)


READERS = {
    "rows": rows_reader,
    "conversations": conversation_reader,
    "parquet": parquet_reader,
    "save_to_disk": saved_reader,
    "hub copies": hub_copy_reader,
    "refusals": sentence_reader,
    "rewriting": rewriting_reader,
}
