"""Gives every reader hostile input: it must read it, or say in one message what is wrong with it.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_readers.py --inputs 100000 --readers rows configs

A tenth of the inputs is made by hypothesis, which also makes a failing one small; the others are
true files in which bits are flipped and parts are cut, repeated, swapped and put in (in JSON also
keys and values exchanged), among them attacks: objects that run code when they are loaded,
templates that reach for the system, aliases that multiply, gzip bombs. An input fails that raises
anything but an `InputError` of one line, leaves the mark that the attacks try to leave, takes more
than 5 s of computing or lets memory grow by 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import fuzzed_files
import fuzzed_rows
from fuzzed import Reader
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from lit_unlearn.errors import InputError

READERS: dict[str, Callable[[Path, Path], Reader]] = fuzzed_rows.READERS | fuzzed_files.READERS
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
"""Bytes that are put into true files."""


_VALUES = (None, True, -1, 3.5, 10**30, "", "x", [], {}, [None], [""], ["x", "y"], [[]], {"": 1})
"""Put in the place of values of JSON."""


@cache
def _parsed(seed: bytes) -> Any:
    """Return the value of a seed in JSON, or None for a seed of another kind."""
    try:
        return json.loads(seed)
    except ValueError:
        return None


def shaken(value: Any, keys: list[str], choose: random.Random, share: float = 0.15) -> Any:
    """Return a JSON value in which some parts are others, missing, or under another key."""
    if choose.random() < share / 2:
        return choose.choice(_VALUES)
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if choose.random() > share / 3}
        renamed = {choose.choice(keys) if choose.random() < share / 3 else k: k for k in kept}
        return {name: shaken(kept[k], keys, choose, share) for name, k in renamed.items()}
    if isinstance(value, list):
        found = [shaken(v, keys, choose, share) for v in value if choose.random() > share / 3]
        return found * 2 if choose.random() < share / 3 else found
    return value


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from _keys(part)


def mutated(seeds: list[bytes], choose: random.Random) -> bytes:
    """Return one of the seeds with some changes."""
    seed = choose.choice(seeds)
    if _parsed(seed) is not None and choose.random() < 0.5:
        values = [value for each in seeds if isinstance(value := _parsed(each), dict | list)]
        keys = [key for value in values for key in _keys(value)]
        return json.dumps(shaken(_parsed(seed), keys, choose)).encode()
    return _damaged(bytearray(seed), seeds, choose)


def _damaged(data: bytearray, seeds: list[bytes], choose: random.Random) -> bytes:
    """Return some bytes with one to four changes."""
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
"""Inputs that hypothesis makes."""


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


def _tried(reader: Reader, data: bytes, choose: random.Random, count: Count) -> bool:
    """Give a reader one input; return whether it came to an end."""
    try:
        with limited(reader.endless):
            reader.read(data, choose)
    except InputError as error:
        if "\n" in str(error):
            raise RuntimeError(f"a message of several lines: {error}") from error
        count.refused += 1
    except EndlessError:
        count.endless += 1
        return False
    return True


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
        if not _tried(reader, data, choose, count):
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
