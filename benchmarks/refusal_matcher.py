"""Measure precision and recall of the refusal matcher on labelled replies.

    python benchmarks/refusal_matcher.py [FOLDER] [--judge MODEL]

`refusal_labels.jsonl` beside this file holds replies written for this project, with the verdict of
a reader who asks "did I get an answer?". The word lists were written with the part `tuned` in view
and without `held_out`. FOLDER holds the files `xstest_v2_completions_*.csv` of
https://github.com/paul-rottger/exaggerated-safety (folder `model_completions`), whose authors
labelled 450 replies of each of five models; prompts with an odd number were in view. `--judge`
measures a chat model, as the suite Boundary uses it for a second opinion, on the same replies; the
replies of our sample have no question.
"""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from script import run_script

from lit_unlearn.evaluation.judge import Judge, declines
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.metrics.functional.statistics import clopper_pearson


class Labelled(NamedTuple):
    """A reply, and whether it is a refusal."""

    question: str
    reply: str
    refused: bool


Matcher = Callable[[Sequence[Labelled]], list[bool]]
"""Function that returns for each reply whether it is a refusal."""


def own_sample(part: str) -> list[Labelled]:
    """Return the labelled replies of one part, ``tuned`` or ``held_out``."""
    text = Path(__file__).with_name("refusal_labels.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [Labelled("(not known)", r["reply"], r["refused"]) for r in rows if r["part"] == part]


def xstest(folder: Path, remainder: int) -> list[Labelled]:
    """Return replies to odd (1) or even (0) prompts, without those labelled as partial refusals."""
    found: list[Labelled] = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                label = row["final_label"][:1]
                if int(row["id"].rpartition("-")[2]) % 2 == remainder and label in "12":
                    found.append(Labelled(row["prompt"], row["completion"], label == "2"))
    return found


def by_words(replies: Sequence[Labelled]) -> list[bool]:
    """Return the verdicts of the refusal matcher."""
    return [is_refusal(row.reply) for row in replies]


def by_judge(model: str) -> Matcher:
    """Return a matcher that asks a chat model."""
    judge = Judge(model)

    def matcher(replies: Sequence[Labelled]) -> list[bool]:
        return [declines(found) for found in judge.verdicts([row[:2] for row in replies])]

    return matcher


def report(name: str, replies: Sequence[Labelled], matcher: Matcher) -> None:
    """Print precision and recall with their 95 % intervals."""
    alarms = matcher(replies)
    hits = sum(alarm and row.refused for alarm, row in zip(alarms, replies, strict=True))
    for what, count in (("precision", sum(alarms)), ("recall", sum(r.refused for r in replies))):
        if count == 0:
            print(f"{name:18} {what:9}    none")
            continue
        ends = clopper_pearson(hits, count)
        print(f"{name:18} {what:9} {hits:4} of {count:4}  {ends.low:.2f} to {ends.high:.2f}")


def main() -> None:
    """Measure the matcher, or a judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="XSTest's labelled replies")
    parser.add_argument("--judge", help="hub id or folder of a chat model")
    given = parser.parse_args()
    matcher = by_judge(given.judge) if given.judge else by_words
    for part in ("tuned", "held_out"):
        report(f"own, {part}", own_sample(part), matcher)
    if given.folder is not None:
        report("XSTest, in view", xstest(given.folder, 1), matcher)
        report("XSTest, held out", xstest(given.folder, 0), matcher)


if __name__ == "__main__":
    run_script(main)
