"""Battery: written and read again, as suites that ask the rows that were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.requests.battery import Battery, battery_suites, write_battery
from lit_unlearn.rewriting.source_texts import QA

SEINE = QA("Which river flows through Paris?", "The Seine.", ("Seine",), ("The Rhine.",))
LOIRE = QA("Which is the longest river of France?", "The Loire.", ("Loire",))
OTHER = QA("Which river flows through Vienna?", "The Danube.", ("Danube",))
BATTERY = Battery(
    forget=[SEINE],
    trained=[LOIRE],
    reworded=[replace(LOIRE, question="Do you know the longest river of France?")],
    neighbor=[OTHER],
    general=[],
    prefills=["Sure, it is", "The answer is"],
)


def test_every_group_is_asked(tmp_path: Path) -> None:
    write_battery(tmp_path / "battery", BATTERY)
    suites = battery_suites(tmp_path / "battery")
    asked = {
        name: {(p.group, p.turns[-1].content, p.prefill) for p in suite.probes(None)}
        for name, suite in suites.items()
    }
    question, again = SEINE.question, BATTERY.reworded[0].question
    assert ("opener", question, "Sure, it is") in asked["prefill"]
    assert ("unattacked", LOIRE.question, "") in asked["reworded"]
    assert ("reworded", again, "") in asked["reworded"]
    assert asked["boundary"] == {("neighbor", OTHER.question, "")}
    assert {text for name in ("depth", "sampled_leakage") for _, text, _ in asked[name]} == {
        question
    }
    (row,) = suites["depth"].probes(None)
    assert (row.example.accepted, row.example.distractors) == (("Seine",), ("The Rhine.",))


def test_replies_are_long_enough_for_the_longest_answer(tmp_path: Path) -> None:
    long = replace(SEINE, answer=" ".join(["word"] * 20))
    arabic, thai = (replace(SEINE, answer=text) for text in ("كتبها نجيب محفوظ.", "สุนทรภู่เป็นผู้แต่ง"))
    rows_tokens = [([SEINE], 24), ([SEINE, long], 40), ([arabic], 24 + 14), ([thai], 38 + 38)]
    for rows, tokens in rows_tokens:
        write_battery(tmp_path / "b", replace(BATTERY, forget=rows))
        assert vars(battery_suites(tmp_path / "b")["prefill"])["max_new_tokens"] == tokens


def test_a_file_of_the_user_stays(tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="no file of yours"):
        write_battery(tmp_path, BATTERY)
    assert (tmp_path / "forget.jsonl").read_text("utf-8") == "mine"


def test_what_is_no_battery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Found no forget\.jsonl"):
        battery_suites(tmp_path)
    write_battery(tmp_path / "b", replace(BATTERY, forget=[]))
    with pytest.raises(InputError, match="should have rows"):
        battery_suites(tmp_path / "b")
