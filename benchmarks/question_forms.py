"""Print the figures of configs/cyber by the form of a question, as tables in Markdown.

    python benchmarks/question_forms.py FOLDER [FOLDER ...]

A folder is one of a run, with the answers before and after (answers_before.jsonl), or one of an
evaluation with configs/evaluate_cyber.yaml (rows.jsonl). benchmarks/known_questions.py asks a
question in three forms: openly, with its options and answered by a text, or by a letter. The last
line of the question tells its form.

The table of runs is that of the validation rows. `forgotten` is 1 minus ROUGE-L relative to the
start, over all forms of questions to forget; it is the mean of plain questions and of questions
behind an unseen opener. `kept` is the share of correct replies to questions to keep that are
answered by a text, relative to the start. `mean` is the harmonic mean of both, by which a rate is
chosen.

Cost: no model is read; a second.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from known_questions import with_letters, with_options
from script import run_script

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.statistics import harmonic_mean, mean

_EXAMPLE = {"question": "", "choices": [""], "answer": 0}
_ENDINGS = {
    "text": str(with_options(_EXAMPLE, accepted=False)["question"]).splitlines()[-1],
    "letter": str(with_letters(_EXAMPLE)["question"]).splitlines()[-1],
}
FORMS = ("open", *_ENDINGS)
Row = Mapping[str, Any]


def form(question: str) -> str:
    """Return the form of a question: `open`, `text` or `letter`."""
    last = (question.splitlines() or [""])[-1]
    return next((name for name, ending in _ENDINGS.items() if last == ending), "open")


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Return the rows by their key."""
    found = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def share(rows: Sequence[Row], name: str) -> float:
    """Return the mean of the values that a row has; NaN without any."""
    values = [float(row[name]) for row in rows if row[name] is not None]
    return mean(values) if values else math.nan


def run_figures(before: Sequence[Row], after: Sequence[Row]) -> dict[str, float]:
    """Return the figures of a run's validation rows: a row of its table.

    Raises:
        InputError: A form of the questions to forget has no rows.
    """
    start, end = (grouped(filter(_is_forgotten, rows), _is_prefilled) for rows in (before, after))
    plain = grouped(end.get(False, []), lambda row: form(row["question"]))
    if set(plain) != set(FORMS):
        raise InputError(
            f"The answers should have questions to forget in the forms {', '.join(FORMS)}. Found "
            f"{', '.join(sorted(plain)) or 'none'}; run configs/cyber, whose rows have them."
        )
    lost = [1 - share(own, "rouge_l") / share(start[key], "rouge_l") for key, own in end.items()]
    kept = [share(rows, "correct") for rows in map(_kept, (before, after))]
    found = {"forgotten": mean(lost)}
    found |= {f"declined {name}": share(plain[name], "refused") for name in FORMS}
    found |= {"kept": kept[1] / kept[0], "kept, declined": share(_kept(after), "refused")}
    found["nats a token"] = mean([share(plain[name], "answer_nll") for name in FORMS])
    return found | {"mean": harmonic_mean([max(found["forgotten"], 0.0), found["kept"]])}


def _is_forgotten(row: Row) -> bool:
    return row["objective"] == "forget"


def _is_prefilled(row: Row) -> bool:
    return bool(row["prefill"])


def _kept(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not _is_forgotten(row) and row["correct"] is not None]


def evaluation_figures(rows: Iterable[Row]) -> dict[str, float]:
    """Return `suite, group, form, score` -> mean of an evaluation's rows.

    The suite `choices` adds the options to open questions, and asks for a letter.
    """
    found = defaultdict(list)
    for row in rows:
        for name, score in row["scores"].items():
            if score is not None:
                asked = "letter" if row["suite"] == "choices" else form(row["question"])
                found[f"{row['suite']}, {row['group']}, {asked}, {name}"].append(float(score))
    return {place: mean(values) for place, values in sorted(found.items())}


def table(columns: Mapping[str, Mapping[str, float]], corner: str) -> str:
    """Return a table in Markdown with a line for each name of a figure."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    lines = [f"| {' | '.join([corner, *columns])} |", "| --- " * (1 + len(columns)) + "|"]
    for name in names:
        cells = [f"{own[name]:.2f}" if name in own else "-" for own in columns.values()]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def _lines(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def main(args: Sequence[str] | None = None) -> None:
    """Print a table of the runs, and one of the evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    runs: dict[str, Mapping[str, float]] = {}
    evaluations: dict[str, Mapping[str, float]] = {}
    for folder in parser.parse_args(args).folders:
        before, after = (folder / f"answers_{when}.jsonl" for when in ("before", "after"))
        if before.exists() and after.exists():
            runs[folder.name] = run_figures(_lines(before), _lines(after))
        elif (folder / "rows.jsonl").exists():
            evaluations[folder.name] = evaluation_figures(_lines(folder / "rows.jsonl"))
        else:
            raise InputError(
                f"Argument `FOLDER` should be the folder of a run that ended or of an evaluation. "
                f"{folder} has neither {after.name} nor rows.jsonl."
            )
    for columns, corner in ((runs, "validation rows"), (evaluations, "suite, group, form, score")):
        if columns:
            print(table(columns, corner) + "\n")


if __name__ == "__main__":
    run_script(main)
