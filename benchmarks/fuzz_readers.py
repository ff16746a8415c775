"""Gives every reader hostile input: it must read it, or say in one message what is wrong with it.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_readers.py --inputs 100000 --seed 0 --readers rows yaml

A tenth of the inputs is made by hypothesis, which also makes a failing one small; the others are
true files in which bits are flipped and parts are cut, repeated, swapped and put in, among them
attacks: objects that run code when they are loaded, templates that reach for the system, aliases
that multiply, gzip bombs. An input fails that raises anything but `InputError`, leaves the mark
that the attacks try to leave, takes more than 5 s of computing or lets memory grow by 1 GiB.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import logging
import os
import pickle
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from lit_unlearn.callbacks.saved import UNFINISHED, check_checkpoint, find_saved, seal
from lit_unlearn.cli.config import merge_configs, read_config
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.raw_rows import BadRows
from lit_unlearn.data.readers import parse_file
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.data.unify import to_example
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.outcome_store import FILE_NAME, Store
from lit_unlearn.evaluation.probes import Outcome
from lit_unlearn.evaluation.record_files import METRICS, ROWS, read_evaluation
from lit_unlearn.models.tiny import tiny_tokenizer
from lit_unlearn.teachers.cache.store import INDEX_FILE, Entry, Shards
from lit_unlearn.training.setup.settled import Settled, read_settled, write_settled
from lit_unlearn.types import Domain, Example, Turn
from lit_unlearn.utils.chat_template import PLAIN_TEMPLATE

MOST_SECONDS, MOST_BYTES = 5.0, 2**30
_PIECES = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\n", b"\r", b"\xc2\x85", b'"', b"\\ud800",
    b"\\u0000", b"{", b"}", b"[" * 3000, b'{"a":' * 3000, b"]", b":", b",", b"- ", b"&a ", b"*a",
    b"<<: *a", b"!!python/object/apply:os.system [true]", b"!!int", b"!!timestamp x", b"!!bool 3",
    b"!!float x", b"? ", b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"../../../x",
    b"question", b"answer", b"text", b"messages", b"role", b"content", b"{% for x in range(9) %}",
    b"{% endfor %}", b"{{ messages }}", b"{{ messages[9] }}", b"{% if x %}", b"{% endif %}",
    b"{{ 1 / 0 }}", b"{% raw %}", b"{{ raise_exception('no') }}", b"{% generation %}",
    b"{{ [].append(1) }}", b"|tojson", b"{{ ''.__class__.__mro__ }}", b"{% include 'x' %}",
)  # fmt: skip
"""Put into true files."""


@dataclass(frozen=True)
class Reader:
    """What is fuzzed."""

    name: str
    seeds: list[bytes]
    """True files, and attacks."""
    read: Callable[[bytes, random.Random], None]
    """Reads an input; the random generator chooses how."""
    endless: bool = False
    """Whether inputs may compute for ever, so that they must be broken off."""
    slow: tuple[bytes, ...] = ()
    """Attacks that are tried once, as they are."""


def mutated(seeds: list[bytes], choose: random.Random) -> bytes:
    """One of the seeds with one to four changes."""
    data = bytearray(choose.choice(seeds))
    for _ in range(choose.randint(1, 4)):
        place, end = sorted(choose.randrange(len(data) + 1) for _ in range(2))
        change = choose.randrange(7)
        if change == 0 and data:
            data[place % len(data)] ^= 1 << choose.randrange(8)
        elif change == 1:
            data[place:place] = choose.choice(_PIECES)
        elif change == 2:
            del data[place : min(end, place + choose.choice((1, 4, 64)))]
        elif change == 3:
            data[place:place] = data[place : place + 200] * choose.choice((1, 2, 20))
        elif change == 4:
            del data[place:]
        elif change == 5:
            other = choose.choice(seeds)
            start = choose.randrange(len(other) + 1)
            data[place:place] = other[start : start + 100]
        else:
            data[place:place] = choose.randbytes(choose.randint(1, 8))
    return bytes(data)


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["question", "answer", "text", "a", ""]), inner)
    ),
    max_leaves=12,
)
BYTES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    _PLAIN.map(lambda value: json.dumps(value).encode()),
    st.lists(st.sampled_from(_PIECES), max_size=8).map(b"".join),
)
"""What hypothesis makes."""


# ------------------------------------------------------------------------------------------ readers


class Evil:
    """Leaves a mark when it is loaded by a reader that runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def rows_reader(folder: Path, mark: Path) -> Reader:
    """JSON, JSON lines, CSV, text and gzip, and every converter behind them."""
    lines = (
        b'{"question": "Who?", "answer": "Me.", "id": 3}\n{"question": "Why?", "answer": ["a"]}\n',
        b'[{"instruction": "Do", "output": "Done"}, {"text": "A passage. It goes on."}]',
        b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]'
        b', "id": 7}',
        b'{"question": "Which?", "choices": ["a", "b"], "answer": 1}\n',
        b'question,answer\n"Who, me?",Yes\nWhy,No\n',
        "Ein Absatz mit Umlauten: äöü\u2028und mehr.\n".encode(),
    )
    bomb = gzip.compress(b"[" + b" " * 2**27, mtime=0)
    seeds = [*lines, *(gzip.compress(line, mtime=0) for line in lines)]
    names = ("a.json", "a.jsonl", "a.csv", "a.txt", "a.jsonl.gz")

    def read(data: bytes, choose: random.Random) -> None:
        name = "a.jsonl.gz" if data[:2] == b"\x1f\x8b" else choose.choice(names)
        domain = choose.choice(get_args(Domain))
        form = choose.choice(("unified", "raw"))
        for row in parse_file(data, name, BadRows(choose.choice(("skip", "error")), "a")):
            try:
                examples = to_example(row, domain, form, "a")
            except InputError:
                continue
            for example in examples:
                repr(example).encode()

    return Reader("rows", seeds, read, slow=(bomb,))


def parquet_reader(folder: Path, mark: Path) -> Reader:
    """A downloaded copy of a hub data set in parquet, through the hub's own client."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    tables = (
        {"question": ["Who?", "Why?"], "answer": ["Me.", "So."]},
        {"question": ["a"] * 500, "answer": [None] * 500, "n": list(range(500))},
    )
    seeds = []
    for table in tables:
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(table), file)
        seeds.append(file.getvalue())
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
        os.utime(copy / "train.parquet", (count, count))  # so that no earlier one is remembered
        read_rows(Source(str(copy), "all"))

    return Reader("parquet", seeds, read)


def template_reader(folder: Path, mark: Path) -> Reader:
    """Chat templates, and everything that an encoder asks of one."""
    tokenizer = tiny_tokenizer()
    system = "{{ messages[0]['content'] }}{% set messages = messages[1:] %}"
    reach = "cycler.__init__.__globals__.os.mkdir('" + str(mark) + "')"
    seeds = [
        str(tokenizer.chat_template).encode(),
        PLAIN_TEMPLATE.encode(),
        (
            "{% if messages[0]['role'] == 'system' %}" + system + "{% endif %}{{ eos_token }}"
        ).encode(),
        ("{{ " + reach + " }}").encode(),
        ("{{ (''|attr('__class__')).__mro__[1].__subclasses__() }}{{ " + reach + " }}").encode(),
    ]
    example = Example("a/0", (Turn("user", "Who?"),), "Me.", "question_answer")

    def read(data: bytes, choose: random.Random) -> None:
        tokenizer.chat_template = data.decode("utf-8", "replace")
        encoder = Encoder(tokenizer, 512, "warn")
        encoder.encode(example, "Me.", prefill=choose.choice(("", "Sure")))

    return Reader("templates", seeds, read, endless=True)


def config_reader(folder: Path, mark: Path) -> Reader:
    """Config files, and laying one over another."""
    laughs = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in pairwise("abcdefghi")
    )
    seeds = [
        b"seed_everything: 0\ntrainer:\n  max_steps: 6\n  callbacks:\n    - class_path: X\n"
        b"      init_args: {n: 2, lr: 1e-5}\nmodel: {student: {path: random-tiny}}\n",
        b"data:\n  objectives:\n    forget: &f\n      rows: 2\n    retain:\n      <<: *f\n",
        b'{"trainer": {"logger": null}, "data": {"list+": [1, 2.5, "x", true, 2026-01-01]}}',
        laughs.encode(),
        b"a: &a\n  b: *a\n",
        f"a: !!python/object/apply:os.mkdir ['{mark}']\n".encode(),
    ]
    file, base = folder / "fuzz.yaml", {"trainer": {"callbacks": [1]}, "data": {"objectives": {}}}

    def read(data: bytes, choose: random.Random) -> None:
        file.write_bytes(data)
        values = read_config(file).values
        json.dumps(merge_configs(merge_configs(base, values), values), default=str)

    return Reader("configs", seeds, read)


def cache_reader(folder: Path, mark: Path) -> Reader:
    """A teacher cache: its index and its shards, with and without the right digest."""
    place = folder / "cache"
    store = Shards(place)
    with store.locked():
        store.append(
            [Entry(bytes(16), 2, torch.ones(3, 4)), Entry(bytes([1] * 16), 0, torch.ones(1, 4))]
        )
    shard = next(place.glob("*.safetensors"))
    index = (place / INDEX_FILE).read_bytes()
    whole = shard.read_bytes()

    def read(data: bytes, choose: random.Random) -> None:
        import hashlib

        is_index = data[:1] == b"{" and b"shards" in data[:40]
        (place / INDEX_FILE).write_bytes(data if is_index else index)
        shard.write_bytes(whole if is_index else data)
        if not is_index and choose.random() < 0.5:  # as if somebody had made it on purpose
            digest = hashlib.sha256(data).hexdigest()
            made = json.dumps({"shards": {shard.name: digest}})
            (place / INDEX_FILE).write_text(made, "utf-8")
        opened = Shards(place)
        for key in opened.entries:
            opened.read(key)

    return Reader("cache", [index, whole, whole], read)


def checkpoint_reader(folder: Path, mark: Path) -> Reader:
    """Checkpoints that a user names, and those of unfinished runs with their manifests."""

    def saved(content: object, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    content = {"state_dict": {"w": torch.ones(3, 2)}, "loops": {}, "optimizer_states": [{"a": 1}]}
    attack = {**content, "extra": Evil(mark)}
    part = folder / UNFINISHED / ".part"
    part.mkdir(parents=True)
    part.joinpath("state.ckpt").write_bytes(saved(content))
    unfinished = seal(part, 3, "", 0)
    manifest = (unfinished.folder / "manifest.json").read_bytes()
    seeds = [
        saved(content),
        saved(content, _use_new_zipfile_serialization=False),
        saved(attack),
        saved(attack, _use_new_zipfile_serialization=False),
        pickle.dumps(Evil(mark)),
        manifest,
    ]
    file = folder / "given.ckpt"

    def read(data: bytes, choose: random.Random) -> None:
        if data[:1] == b"{":
            (unfinished.folder / "manifest.json").write_bytes(data)
            find_saved(folder)
        else:
            file.write_bytes(data)
            check_checkpoint(file)

    return Reader("checkpoints", seeds, read)


def result_reader(folder: Path, mark: Path) -> Reader:
    """What evaluations and preparations have stored."""
    store = Store(folder / "store")
    with store:
        store.append({"0" * 64: Outcome("p", {}, ("yes", "no"))})
    stored = (folder / "store" / FILE_NAME).read_bytes()
    metrics = json.dumps({
        "schema_version": 1, "model": "m", "fingerprint": "f", "settings": {}, "versions": {},
        "balance": [], "suites": [{"suite": "s", "settings": {}, "seconds": 1.0,
        "cpu_seconds": 1.0, "rows": 1, "figures": []}],
    }).encode()  # fmt: skip
    row = b'{"suite": "s", "row_id": "r", "group": "g", "scores": {"a": 1.0}}\n'
    prepared = folder / "preparation.json"
    write_settled(prepared, "key", Settled({"forget": 0}, {"forget": ["a", None]}))
    whole = prepared.read_bytes()
    files = ((folder / METRICS, metrics), (folder / ROWS, row), (prepared, whole))

    def read(data: bytes, choose: random.Random) -> None:
        chosen = choose.randrange(4)
        for number, (file, usual) in enumerate(files):
            file.write_bytes(data if number == chosen else usual)
        if chosen == 3:
            (folder / "store" / FILE_NAME).write_bytes(data)
            with store:
                store.read(["0" * 64])
        elif chosen == 2:
            read_settled(prepared, "key")
        else:
            read_evaluation(folder)

    return Reader("results", [stored, metrics, row, whole], read)


READERS: dict[str, Callable[[Path, Path], Reader]] = {
    "rows": rows_reader,
    "parquet": parquet_reader,
    "templates": template_reader,
    "configs": config_reader,
    "cache": cache_reader,
    "checkpoints": checkpoint_reader,
    "results": result_reader,
}


# --------------------------------------------------------------------------------------------- main


@dataclass
class Count:
    """What came of the inputs of one reader."""

    inputs: int = 0
    refused: int = 0
    """With an `InputError`; the others could be read."""
    slowest: float = 0.0
    """Seconds of computing."""
    endless: int = 0
    """Loops in templates that were broken off after a second: their own bound is ten times that."""


class EndlessError(BaseException):
    """No `Exception`, which a reader might take for one of its own."""


@contextmanager
def limited(wanted: bool) -> Iterator[None]:
    """Break off what computes for more than a second."""

    def stop(*_: object) -> None:
        raise EndlessError

    if not wanted:
        yield
        return
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 1.0, 0.1)  # again: within a finaliser it is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def fuzz(name: str, inputs: int, seed: int, folder: Path) -> Count:
    """Give a reader so many inputs.

    Args:
        name: One of `READERS`.
        inputs: How many.
        seed: The same inputs for the same seed.
        folder: An empty one, best in memory.

    Raises:
        Exception: Whatever an input raised that it must not raise.
        RuntimeError: An input ran code, took too long, or let memory grow.
    """
    mark = folder / "mark"
    reader, count = READERS[name](folder, mark), Count()
    choose = random.Random(f"{name} {seed}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def one(data: bytes) -> None:
        began = time.process_time()
        count.inputs += 1
        try:
            with limited(reader.endless):
                reader.read(data, choose)
        except InputError:
            count.refused += 1
        except EndlessError:
            count.endless += 1
            return
        count.slowest = max(count.slowest, time.process_time() - began)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if mark.exists() or count.slowest > MOST_SECONDS or grown > MOST_BYTES:
            raise RuntimeError(
                f"{name}: an input ran code: {mark.exists()}; seconds: {count.slowest:.1f}; "
                f"bytes more: {grown}; it begins {data[:200]!r}"
            )

    made = max(1, inputs // 10)
    unhurried = settings(
        max_examples=made, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    hypothesis_seed(seed)(unhurried(given(BYTES)(one)))()
    for data in (*reader.seeds, *reader.slow):
        one(data)
    while count.inputs < inputs:
        data = mutated(reader.seeds, choose)
        try:
            one(data)
        except Exception as error:
            error.add_note(f"{name}, seed {seed}, input {count.inputs}: {data[:2000]!r}")
            raise
    return count


def main() -> None:
    """Fuzz the readers, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    given_options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    for name in given_options.readers:
        began = time.process_time()
        with tempfile.TemporaryDirectory(
            dir="/dev/shm" if Path("/dev/shm").is_dir() else None
        ) as f:
            os.environ["HF_DATASETS_CACHE"] = f"{f}/hub"
            count = fuzz(name, given_options.inputs, given_options.seed, Path(f))
        print(
            f"{name}: {count.inputs} inputs, {count.refused} refused with InputError, the others "
            f"read ({count.endless} endless); slowest {count.slowest:.2f} s; "
            f"{time.process_time() - began:.0f} s in all",
            flush=True,
        )


if __name__ == "__main__":
    main()
