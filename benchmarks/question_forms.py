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
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from known_questions import with_letters, with_options
from script import run_script

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.record_files import is_evaluation, read_evaluation
from lit_unlearn.evaluation.suites.answers import PREFILLED, read_answers
from lit_unlearn.metrics.functional.statistics import harmonic_mean, mean

_EXAMPLE = {"question": "", "choices": [""], "answer": 0}
_ENDINGS = {
    "text": str(with_options(_EXAMPLE, accepted=False)["question"]).splitlines()[-1],
    "letter": str(with_letters(_EXAMPLE)["question"]).splitlines()[-1],
}
FORMS = ("open", *_ENDINGS)
_FORGET = ("forget", f"forget{PREFILLED}")
"""Groups of the questions to forget: plain, and behind an opener."""


def form(question: str) -> str:
    """Return the form of a question: `open`, `text` or `letter`."""
    last = (question.splitlines() or [""])[-1]
    return next((name for name, ending in _ENDINGS.items() if last == ending), "open")


def share(rows: Iterable[Row], name: str) -> float:
    """Return the mean of a score over the rows that have it; NaN without any."""
    values = [value for row in rows if not math.isnan(value := row.scores[name])]
    return mean(values) if values else math.nan


def run_figures(before: Sequence[Row], after: Sequence[Row]) -> dict[str, float]:
    """Return the figures of a run's validation rows: a row of its table.

    A ratio is NaN if the start has none of what is kept or forgotten.

    Raises:
        InputError: A form of the questions to forget has no rows.
    """
    plain = {
        name: [r for r in after if r.group == "forget" and form(r.question) == name]
        for name in FORMS
    }
    lacking = [name for name, rows in plain.items() if not rows]
    if lacking:
        raise InputError(
            f"The answers should have questions to forget in the forms {', '.join(FORMS)}. "
            f"Found none of the form {lacking[0]}; run configs/cyber, whose rows have them."
        )
    groups = [
        [[r for r in rows if r.group == group] for rows in (after, before)] for group in _FORGET
    ]
    lost = [1 - _ratio(*(share(rows, "rouge_l_recall") for rows in both)) for both in groups]
    known = [value for value in lost if not math.isnan(value)]
    end, start = _judged(after), _judged(before)
    found = {"forgotten": mean(known) if known else math.nan}
    found |= {f"declined {name}": share(rows, "refused") for name, rows in plain.items()}
    found["kept"] = _ratio(share(end, "correct"), share(start, "correct"))
    found["kept, declined"] = share(end, "refused")
    found["nats a token"] = mean([share(rows, "answer_nll") for rows in plain.values()])
    return found | {"mean": harmonic_mean([max(found["forgotten"], 0.0), found["kept"]])}


def _judged(rows: Iterable[Row]) -> list[Row]:
    """Return the questions to keep whose replies were judged as correct or not."""
    return [r for r in rows if r.group not in _FORGET and not math.isnan(r.scores["correct"])]


def _ratio(end: float, start: float) -> float:
    return end / start if start else math.nan


def evaluation_figures(suites: Mapping[str, Iterable[Row]]) -> dict[str, float]:
    """Return `suite, group, form, score` -> mean of the rows of an evaluation's suites.

    The suite `choices` adds the options to open questions, and asks for a letter.
    """
    found = defaultdict(list)
    for suite, rows in suites.items():
        for row in rows:
            asked = "letter" if suite == "choices" else form(row.question)
            for name, score in row.scores.items():
                if not math.isnan(score):
                    found[f"{suite}, {row.group}, {asked}, {name}"].append(score)
    return {place: mean(values) for place, values in sorted(found.items())}


def table(columns: Mapping[str, Mapping[str, float]], corner: str) -> str:
    """Return a table in Markdown with a line for each name of a figure."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    lines = [f"| {' | '.join([corner, *columns])} |", "| --- " * (1 + len(columns)) + "|"]
    for name in names:
        cells = [f"{own[name]:.2f}" if name in own else "-" for own in columns.values()]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> None:
    """Print a table of the runs, and one of the evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    runs: dict[str, Mapping[str, float]] = {}
    evaluations: dict[str, Mapping[str, float]] = {}
    for folder in parser.parse_args(args).folders:
        before, after = (folder / f"answers_{when}.jsonl" for when in ("before", "after"))
        if before.exists() and after.exists():
            runs[str(folder)] = run_figures(read_answers(before), read_answers(after))
        elif is_evaluation(folder):
            suites = read_evaluation(folder).suites
            rows = {name: suite.rows for name, suite in suites.items()}
            evaluations[str(folder)] = evaluation_figures(rows)
        else:
            raise InputError(
                f"Argument `FOLDER` should be the folder of a run that ended or of an evaluation. "
                f"{folder} has neither {after.name} nor the files of an evaluation."
            )
    for columns, corner in ((runs, "validation rows"), (evaluations, "suite, group, form, score")):
        if columns:
            print(table(columns, corner) + "\n")


if __name__ == "__main__":
    run_script(main)
