"""The store: exact, resumable after a kill, and never wrong about what it holds."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation import outcome_store as store_module
from lit_unlearn.evaluation.outcome_store import FILE_NAME, Store, content_key
from lit_unlearn.evaluation.probes import Forced, Generation, Outcome, Probe
from lit_unlearn.types import Example, Turn

FORKED = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
FORCED = Forced((-0.1, -1 / 3, -1e-310), (True, False, True), (-5.0, -0.2, -7.7), (0.0, 1.1, 2.2))
OUTCOME = Outcome(
    "forget/1", {"answer": FORCED, "wrong/0": FORCED}, ("a\nreply", "\u2028 é \ud83d")
)
PROBE = Probe(
    probe_id="forget/1",
    group="forget",
    example=Example("row/1", (Turn("user", "q"),), "gold", "passage"),
    turns=(Turn("user", "who?"),),
    candidates={"answer": "she", "wrong/0": "he"},
    generation=Generation(),
)


def key(number: int) -> str:
    return f"{number:064x}"


def outcome(number: int, tokens: int = 3) -> Outcome:
    values = tuple(-number - k / 7 for k in range(tokens))
    forced = Forced(values, tuple(k % 2 == 0 for k in range(tokens)), values, values)
    return Outcome(f"forget/{number}", {"answer": forced}, (f"reply {number}",))


def held(folder: Path, count: int = 200) -> dict[str, Outcome]:
    with Store(folder) as store:
        return store.read([key(number) for number in range(count)])


# ------------------------------------------------------------------------------------- round trip


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Within one opening and after another, bit for bit; lone surrogates and line breaks too."""
    with Store(tmp_path / "new" / "folder") as store:
        store.append({key(0): OUTCOME, key(1): outcome(1)})
        store.append({key(2): outcome(2)})
        wanted = {key(0): OUTCOME, key(2): outcome(2)}
        assert store.read([key(0), key(2), key(3)]) == wanted
    assert held(tmp_path / "new" / "folder") == {**wanted, key(1): outcome(1)}


def test_numbers_that_are_none(tmp_path: Path) -> None:
    forced = Forced((-math.inf,), (False,), (math.nan,), (math.inf,))
    with Store(tmp_path) as store:
        store.append({key(0): Outcome("x", {"answer": forced})})
    found = held(tmp_path)[key(0)].forced["answer"]
    assert (found.log_probs, found.deviations) == ((-math.inf,), (math.inf,))
    assert math.isnan(found.means[0])


def test_the_last_of_two_lines_with_one_key_counts(tmp_path: Path) -> None:
    for number in (1, 2):
        with Store(tmp_path) as store:
            store.append({key(0): outcome(number)})
    assert held(tmp_path) == {key(0): outcome(2)}


# ----------------------------------------------------------------------------------- interruption


def test_a_torn_line_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    """Cut at every byte of the last line, its line break included; then it is written again."""
    with Store(tmp_path) as store:
        store.append({key(0): outcome(0, 1)})
        first = (tmp_path / FILE_NAME).stat().st_size
        store.append({key(1): outcome(1, 1)})
    whole = (tmp_path / FILE_NAME).read_bytes()
    for end in range(first, len(whole)):
        (tmp_path / FILE_NAME).write_bytes(whole[:end])
        assert held(tmp_path) == {key(0): outcome(0, 1)}
        assert (tmp_path / FILE_NAME).read_bytes() == whole[:first]
    with Store(tmp_path) as store:
        store.append({key(1): outcome(1, 1)})
    assert (tmp_path / FILE_NAME).read_bytes() == whole


def append_for_ever(folder: Path) -> None:
    """Lines of about 0.5 MB, so that a kill falls into the writing of one."""
    with Store(folder) as store:
        for number in range(10_000):
            store.append({key(number): outcome(number, tokens=6_000)})


@FORKED
def test_a_killed_process_leaves_whole_lines_and_no_lock(tmp_path: Path) -> None:
    """SIGKILL while it appends; what the next one finds are the first outcomes, each exact."""
    child = multiprocessing.get_context("fork").Process(target=append_for_ever, args=(tmp_path,))
    child.start()
    path = tmp_path / FILE_NAME
    deadline = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    found = held(tmp_path)
    assert len(found) >= 2
    assert found == {key(k): outcome(k, tokens=6_000) for k in range(len(found))}
    with Store(tmp_path) as store:
        store.append({key(len(found)): OUTCOME})
    assert held(tmp_path) == {**found, key(len(found)): OUTCOME}


def hold(folder: Path, connection: multiprocessing.connection.Connection) -> None:
    with Store(folder):
        connection.send("open")
        connection.recv()


@FORKED
def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second is told so at once; when the first is through, it may."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=hold, args=(tmp_path, there))
    child.start()
    assert here.recv() == "open"
    with (
        pytest.raises(InputError, match=r"another process at work in it; wait for it"),
        Store(tmp_path),
    ):
        pass
    here.send("close")
    child.join()
    assert held(tmp_path) == {}


def test_a_store_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Store(tmp_path):
        _ = 1 / 0
    assert held(tmp_path) == {}
    (tmp_path / FILE_NAME).write_text("{}\n")
    for _ in range(2):  # the second time it is the file again, not a lock that was left
        with pytest.raises(InputError, match=r"outcomes\.jsonl: expected lines"):
            held(tmp_path)


def test_a_damaged_line_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append({key(0): outcome(0), key(1): outcome(1)})
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"replies"', b'"repl', 1))
    with Store(tmp_path) as store:
        assert store.read([key(1)]) == {key(1): outcome(1)}
        with pytest.raises(InputError, match="delete that line"):
            store.read([key(0)])


def test_it_is_used_inside_with(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside `with`"):
        Store(tmp_path).read([])


# -------------------------------------------------------------------------------------------- key

CHANGED = {
    "question": replace(PROBE, turns=(Turn("user", "Who?"),)),
    "role": replace(PROBE, turns=(Turn("system", "who?"),)),
    "turns": replace(PROBE, turns=(Turn("user", "who?"), Turn("assistant", "she"))),
    "plain": replace(PROBE, plain=True),
    "prefill": replace(PROBE, prefill="It was"),
    "candidate": replace(PROBE, candidates={"answer": "she", "wrong/0": "it"}),
    "name of a candidate": replace(PROBE, candidates={"answer": "she", "wrong/1": "he"}),
    "fewer candidates": replace(PROBE, candidates={"answer": "she"}),
    "no reply": replace(PROBE, generation=None),
    "length": replace(PROBE, generation=Generation(max_new_tokens=65)),
    "samples": replace(PROBE, generation=Generation(samples=2, temperature=1.0)),
    "temperature": replace(PROBE, generation=Generation(temperature=1.0)),
    "top_p": replace(PROBE, generation=Generation(top_p=0.9)),
    "stops": replace(PROBE, generation=Generation(stops=("\n",))),
    "seed": replace(PROBE, generation=Generation(seed=1)),
}


def test_every_change_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change gives a key of its own: none is equal to another, or to the unchanged one."""
    keys = {name: content_key("model", "", probe) for name, probe in CHANGED.items()}
    keys["unchanged"] = content_key("model", "", PROBE)
    keys["model"] = content_key("another", "", PROBE)
    keys["variant"] = content_key("model", "int4", PROBE)
    keys["suite's way"] = content_key("model", "", PROBE, "steps 5")
    keys["suite's other way"] = content_key("model", "", PROBE, "steps 6")
    other = replace(PROBE, example=replace(PROBE.example, answer="another"))
    keys["the row, for a suite's way"] = content_key("model", "", other, "steps 5")
    monkeypatch.setattr(store_module, "ENGINE_VERSION", -1)
    keys["engine"] = content_key("model", "", PROBE)
    assert len(set(keys.values())) == len(keys)
    assert {len(digits) for digits in keys.values()} == {64}


def test_what_does_not_matter_does_not_change_the_key() -> None:
    """Ids and the row behind a probe are not read by the engine, nor is the candidates' order."""
    same = replace(
        PROBE,
        probe_id="retain/7",
        group="retain",
        example=replace(PROBE.example, example_id="row/7"),
        candidates={"wrong/0": "he", "answer": "she"},
    )
    assert content_key("model", "", same) == content_key("model", "", PROBE)


def test_lines_are_json(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append({key(0): OUTCOME})
    (line,) = (tmp_path / FILE_NAME).read_text("utf-8").splitlines()
    assert json.loads(line)["probe_id"] == "forget/1"
