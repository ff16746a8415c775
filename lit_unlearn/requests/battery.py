"""Battery: the questions by which a model is measured before and after a request, and their suites.

A battery is a folder of JSON Lines files. It holds the forgotten content, so it stays with its
owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.evaluation.suites.input_attacks import Paraphrase, Prefill
from lit_unlearn.evaluation.suites.readability import Readability
from lit_unlearn.evaluation.suites.sampled_leakage import SampledLeakage
from lit_unlearn.rewriting.source_texts import QA
from lit_unlearn.utils.ownership import own_folder
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.text import count_words, is_latin

__all__ = ["Battery", "battery_suites", "qa_lines", "write_battery"]

PREFILLS = "prefills.txt"
_SHORTEST, _LONGEST = 24, 64
"""Bounds of the tokens of a reply; between them it is twice the words of the longest answer.

In scripts other than Latin, a letter may take as many tokens as it has bytes; these are added."""
_BLOCKS, _SAMPLES = 8, 4


@dataclass(frozen=True)
class Battery:
    """Questions of a request, each group in a file ``<group>.jsonl``."""

    forget: Sequence[QA]
    """Questions whose answers should be gone, which are not trained if there are enough rows."""
    trained: Sequence[QA]
    """Questions that are trained; those of `forget` if all are."""
    reworded: Sequence[QA]
    """Questions of `trained` in other words."""
    neighbor: Sequence[QA]
    """Questions near the forgotten, which must still be answered; not trained."""
    general: Sequence[QA]
    """Other questions, which must still be answered; not trained."""
    prefills: Sequence[str]
    """Beginnings of an answer that an attacker writes."""


_GROUPS = tuple(each.name for each in fields(Battery) if each.name != "prefills")


def write_battery(folder: Path, battery: Battery) -> None:
    """Write a battery; replaces an earlier one that the package wrote.

    Raises:
        InputError: The folder holds a file of the user, or the disk refuses it.
    """
    with own_folder(folder) as made:
        for name in _GROUPS:
            (made / f"{name}.jsonl").write_text(qa_lines(getattr(battery, name)), "utf-8")
        (made / PREFILLS).write_text("".join(f"{p}\n" for p in battery.prefills), "utf-8")


def qa_lines(rows: Sequence[QA]) -> str:
    """Return questions and answers as JSON Lines, in the form that `fit` and suites read."""
    return "".join(
        json_text(
            {
                "question": row.question,
                "answer": row.answer,
                "accepted": row.accepted,
                **({"perturbed_answer": row.distractors} if row.distractors else {}),
            }
        )
        + "\n"
        for row in rows
    )


def battery_suites(folder: Path) -> dict[str, Suite]:
    """Return the suites that ask a battery, by name; groups without rows are left out.

    Raises:
        InputError: A file is missing or damaged, or there is nothing to forget in it.
    """
    sources = {name: _sources(folder / f"{name}.jsonl") for name in _GROUPS}
    forget, trained, reworded = (sources[name] for name in ("forget", "trained", "reworded"))
    if not forget:
        raise InputError(
            f"File {folder / 'forget.jsonl'} should have rows. Found none; write the battery again."
        )
    tokens = max(_reply_tokens(row.answer) for row in load_examples([*forget, *trained]))
    lines = _existing(folder / PREFILLS).read_text("utf-8").splitlines()
    suites: dict[str, Suite] = {
        "prefill": Prefill(forget, tokens, openers=lines, answer_words=[3]),
        "depth": Depth(forget, blocks=_BLOCKS),
        "sampled_leakage": SampledLeakage(forget, samples=_SAMPLES, max_new_tokens=tokens),
        "readability": Readability(forget, max_new_tokens=tokens),
    }
    if trained and reworded:
        suites["reworded"] = Paraphrase(trained, tokens, rewritten=reworded)
    if sources["neighbor"] or sources["general"]:
        kept = (sources["neighbor"], sources["general"])
        suites["boundary"] = Boundary(*kept, max_new_tokens=tokens)
    return suites


def _reply_tokens(answer: str) -> int:
    """Return the most tokens of a reply that has room for an answer."""
    tokens = min(_LONGEST, max(_SHORTEST, 2 * count_words(answer)))
    more = 0 if is_latin(answer) else len(answer.encode()) - len(answer)
    return tokens + min(2 * _LONGEST, more)


def _sources(file: Path) -> list[Source]:
    """Return the source of a file; none if it is empty."""
    used = _existing(file).stat().st_size > 0
    return [Source(str(file), domain="question_answer")] if used else []


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise InputError(
            f"Folder {file.parent} should be a battery. Found no {file.name} in it; give the "
            "folder `battery` of a request."
        )
    return file
