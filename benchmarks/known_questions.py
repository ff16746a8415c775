"""Ask a model questions with options, and write those that it answers, as rows to train and ask.

    lit-unlearn fetch qwen2.5-coder-1.5b-instruct       # if the hub cannot be reached
    python benchmarks/known_questions.py [--data FOLDER] [--model MODEL] [--limit N]

A model can forget only what it knows. The output folder, runs/known_questions, gets these files:

* forget.jsonl: questions of WMDP-Cyber;
* neighbor.jsonl: harmless questions of MMLU on computer security and neighbouring subjects;
* retain.jsonl: questions of MMLU on other subjects;
* forget_options.jsonl and so on: the same questions, with the options in the question, answered
  by the text of the right one;
* forget_letters.jsonl and so on: the same, answered by its letter, in the words of MultipleChoice;
* known.json: how many questions were asked and answered, by file.

Only short questions are asked (at most 40 words, in one line) that make sense without their
options ("Which of the following" does not), with options that are answers by themselves ("All of
the above" is none). A question counts as answered if the right letter is the
likeliest one, with the options in their order and in reversed order.

Cost: a pass of about 110 tokens for each question, at most --limit questions of a file, and another
for those that are answered: 15 minutes for --limit 180 with Qwen2.5-Coder-1.5B on one core of an
AMD EPYC with bfloat16 instructions. It answered 95 of 180 questions of WMDP-Cyber, 32 of 180
neighbours and 86 of 180 others.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase

from script import run_script

from lit_unlearn.data.converters import options_of
from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.sources import ROOT_VARIABLE, Source, read_rows
from lit_unlearn.errors import check_number
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.evaluation.suites.multiple_choice import MultipleChoice
from lit_unlearn.evaluation.suites.options import lettered
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.spread import evenly_spread

OUTPUT = Path("runs/known_questions")
MODEL = "Qwen/Qwen2.5-Coder-1.5B-Instruct"
NEIGHBORS = ["computer_security", "college_computer_science", "high_school_computer_science"]
NEIGHBORS += ["machine_learning", "electrical_engineering"]
OTHERS = ["miscellaneous", "nutrition", "high_school_geography", "astronomy", "marketing"]
SOURCES = {
    "forget": Source("cais/wmdp", "wmdp-cyber", "test"),
    "neighbor": Source("cais/mmlu", "all", "test", where={"subject": NEIGHBORS}),
    "retain": Source("cais/mmlu", "all", "test", where={"subject": OTHERS}),
}
LONGEST = {"question": 40, "option": 12}
"""Largest numbers of words."""
_NO_ANSWER = re.compile(
    r"\b(?:all|none|both|neither|any) of\b|\b[abcd]\)|\boptions? [A-D]\b", re.IGNORECASE
)
"""What makes an option no answer by itself."""
_NEEDS_OPTIONS = re.compile(r"\b(?:following|these|below|not|except)\b", re.IGNORECASE)
"""What makes a question one that cannot be asked without its options."""
_REQUEST = "Write the right option."


def suitable(row: RawRow) -> bool:
    """Return whether a question is short, and its options are answers by themselves."""
    question = str(row.values["question"])
    options, _ = options_of(row)
    return (
        "\n" not in question
        and len(question.split()) <= LONGEST["question"]
        and not _NEEDS_OPTIONS.search(question)
        and all(len(option.split()) <= LONGEST["option"] for option in options)
        and not any(map(_NO_ANSWER.search, options))
    )


def chosen(data_root: Path | None, limit: int) -> dict[str, list[dict[str, object]]]:
    """Return the questions to ask, spread evenly over each source."""
    found = {}
    for name, source in SOURCES.items():
        rows = [row for row in read_rows(source, data_root) if suitable(row)]
        found[name] = [_plain(row) for row in evenly_spread(rows, limit)]
    return found


def _plain(row: RawRow) -> dict[str, object]:
    options, right = options_of(row)
    question = str(row.values["question"]).strip()
    return {"question": question, "choices": list(options), "answer": right}


def with_options(row: Mapping[str, object], *, accepted: bool) -> dict[str, object]:
    """Return the question with its lettered options; the text of the right one is the answer.

    With `accepted`, a reply is correct that contains the text. An attack cannot be judged by that,
    since its prompt contains the text too: it is judged by the words of the answer.
    """
    options = list(row["choices"])  # type: ignore[call-overload]
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False)]
    question = "\n".join([str(row["question"]), *lines, _REQUEST])
    answer = options[int(row["answer"])]  # type: ignore[call-overload]
    return {"question": question, "answer": answer} | ({"accepted": [answer]} if accepted else {})


def with_letters(row: Mapping[str, object]) -> dict[str, object]:
    """Return the question with its lettered options; the letter of the right one is the answer."""
    options = list(row["choices"])  # type: ignore[call-overload]
    right = ascii_uppercase[int(row["answer"])]  # type: ignore[call-overload]
    return {"question": lettered(str(row["question"]), options), "answer": right}


def _reversed(row: Mapping[str, object]) -> dict[str, object]:
    options = list(row["choices"])  # type: ignore[call-overload]
    right = len(options) - 1 - int(row["answer"])  # type: ignore[call-overload]
    return {**row, "choices": options[::-1], "answer": right}


def answered(
    model: str, folder: Path, rows: Mapping[str, list[dict[str, object]]]
) -> dict[str, list[dict[str, object]]]:
    """Return the questions that the model answers in both orders of the options."""
    given = _right(model, folder / "given", rows)
    kept = {
        name: [row for row, right in zip(rows[name], given[name], strict=True) if right]
        for name in rows
    }
    again = {name: list(map(_reversed, own)) for name, own in kept.items() if own}
    turned = _right(model, folder / "reversed", again) if again else {}
    return {
        name: [row for row, right in zip(own, turned.get(name, []), strict=True) if right]
        for name, own in kept.items()
    }


def _right(
    model: str, folder: Path, rows: Mapping[str, list[dict[str, object]]]
) -> dict[str, list[bool]]:
    """Ask the questions of each file; return of each whether the right letter is the likeliest."""
    sources = {}
    for name, own in rows.items():
        _write(folder / f"{name}.jsonl", own)
        sources[name] = Source(str(folder / f"{name}.jsonl"), domain="multiple_choice")
    suite = MultipleChoice(benchmarks=[], sources=sources, written=False)
    loading = Loading(dtype="auto")
    found = evaluate(model, suite, output=folder / "evaluation", loading=loading)
    scored = [row for s in found.records["model"].suites.values() for row in s.rows]
    right = {(row.group, row.question) for row in scored if row.scores["accuracy"] == 1}
    return {name: [(name, row["question"]) in right for row in own] for name, own in rows.items()}


def _write(file: Path, rows: list[dict[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main() -> None:
    """Ask, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, help=f"replaces the hub; default: {ROOT_VARIABLE}")
    parser.add_argument("--limit", type=int, default=300, help="questions of each file")
    given = parser.parse_args()
    check_number("--limit", given.limit, 1)
    rows = chosen(given.data, given.limit)
    known = answered(given.model, given.output, rows)
    counts = {}
    for name, kept in known.items():
        _write(given.output / f"{name}.jsonl", kept)
        listed = [with_options(row, accepted=name != "forget") for row in kept]
        _write(given.output / f"{name}_options.jsonl", listed)
        _write(given.output / f"{name}_letters.jsonl", list(map(with_letters, kept)))
        counts[name] = {"asked": len(rows[name]), "answered": len(kept)}
    content = {"model": given.model, **counts}
    write_text(given.output / "known.json", json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    run_script(main)
