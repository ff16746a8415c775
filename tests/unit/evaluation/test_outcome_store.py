"""The store: exact, and never wrong about which outcome belongs to which question."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.evaluation import outcome_store as store_module
from lit_unlearn.evaluation.outcome_store import FILE_NAME, Store, content_key
from lit_unlearn.evaluation.probes import Forced, Generation, Outcome, Probe
from lit_unlearn.types import Example, Turn

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


# ------------------------------------------------------------------------------------- round trip


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Bit for bit; lone surrogates and line breaks too."""
    with Store(tmp_path) as store:
        store.append({key(0): OUTCOME, key(1): OUTCOME})
        assert store.read([key(0), key(2)]) == {key(0): OUTCOME}
    with Store(tmp_path) as store:
        assert store.read() == {key(0): OUTCOME, key(1): OUTCOME}


def test_numbers_that_are_none(tmp_path: Path) -> None:
    forced = Forced((-math.inf,), (False,), (math.nan,), (math.inf,))
    with Store(tmp_path) as store:
        store.append({key(0): Outcome("x", {"answer": forced})})
        found = store.read()[key(0)].forced["answer"]
    assert (found.log_probs, found.deviations) == ((-math.inf,), (math.inf,))
    assert math.isnan(found.means[0])


def test_a_store_of_version_0_1_0(tmp_path: Path) -> None:
    line = (
        f'{{"key": "{key(0)}", "probe_id": "forget/1", "replies": ["a\\nreply \\u00e9"], "forced": '
        '{"answer": [[-0.1], [1], [-5.0], [2.5]]}, "crc32": %d}\n'
    )
    (tmp_path / FILE_NAME).write_text(line % 3265575752, "ascii")
    wanted = Outcome(
        "forget/1", {"answer": Forced((-0.1,), (True,), (-5.0,), (2.5,))}, ("a\nreply \u00e9",)
    )
    with Store(tmp_path) as store:
        assert store.read() == {key(0): wanted}
        store.append({key(0): wanted})
    assert (tmp_path / FILE_NAME).read_text("ascii") == 2 * (line % 3265575752)


# -------------------------------------------------------------------------------------------- key

UNCHANGED = "be855d4131496fe6876113ed4ac41e782f701d2349e75d2c29147d02c599d15a"
"""Key in version 0.1.0: stores of users are found again."""
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
    assert keys["unchanged"] == UNCHANGED
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
