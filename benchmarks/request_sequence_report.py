"""Figures, tables and page of benchmarks/request_sequence.py."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
from request_sequence_rows import FACTS, GENERAL, KEPT, REQUESTS

from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.utils.grouping import grouped

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
ALL = range(1, REQUESTS + 1)
ARMS = {
    "plain": "default",
    "joined": "default",
    "interpolated": "interpolated",
    "first_teacher": "interpolated",
    "npo": "npo",
}
"""Arm -> recipe, by which its runs at once and alone are found."""
MADE_ANYWAY = {
    "joined_1": "plain_1",
    "first_teacher_1": "interpolated_1",
    "interpolated_alone_1": "interpolated_1",
    "npo_alone_1": "npo_1",
}
"""Runs that equal another one."""
SEPARATE = 0.1
"""Smallest difference that counts."""
_DRAWS = 2000
Value = tuple[float, float, float]
"""Value, and both ends of its 95 % interval."""


@dataclass(frozen=True)
class Measured:
    """One model with its evaluation."""

    name: str
    new: tuple[int, ...]
    before: tuple[int, ...]
    record: EvaluationRecord
    run: Path | None
    """Folder of its training; None for the target."""

    @cached_property
    def groups(self) -> Mapping[str, list[Row]]:
        """Rows by group."""
        (suite,) = self.record.suites.values()
        return grouped(suite.rows, lambda row: row.group)

    def mean(self, group: str, score: str) -> float:
        """Return the mean of a score over the rows of a group."""
        return fmean(row.scores[score] for row in self.groups[group])


def forgotten(model: Measured, start: Measured, request: int) -> Value:
    """Return how much of a request is forgotten, 0 to 1; see request_sequence.py."""
    own, theirs = (_known(m.groups[f"request {request}"]) for m in (model, start))

    def value(chosen: np.ndarray) -> np.ndarray:
        ratios = own[chosen, :2].mean(1) / np.maximum(theirs[chosen, :2].mean(1), 1e-9)
        return 1 - np.minimum(1, ratios.max(1))

    return _interval(value, [len(own)])


def kept(model: Measured, start: Measured) -> Value:
    """Return the smallest ratio to the target of what must stay, at most 1."""
    pairs = [[_right(m.groups[name], score) for m in (model, start)] for name, score in STAYS]

    def value(*chosen: np.ndarray) -> np.ndarray:
        ratios = [
            a[at].mean(1) / np.maximum(b[at].mean(1), 1e-9)
            for (a, b), at in zip(pairs, chosen, strict=True)
        ]
        return np.minimum(1, np.min(ratios, 0))

    return _interval(value, [len(a) for a, _ in pairs])


STAYS = ((KEPT, "rouge_l_recall"), (FACTS, "rouge_l_recall"), (GENERAL, "correct"))
"""Groups that must stay, and the score by which."""


def _known(rows: Sequence[Row]) -> np.ndarray:
    """Return recall, probability and extraction strength of each row."""
    return np.array(
        [
            [
                r.scores["rouge_l_recall"],
                np.exp(-r.scores["answer_nll"]),
                r.scores["extraction_strength"],
            ]
            for r in rows
        ]
    )


def _right(rows: Sequence[Row], score: str) -> np.ndarray:
    return np.array([row.scores[score] for row in rows])


def _interval(value: Callable[..., np.ndarray], counts: Sequence[int]) -> Value:
    """Return a value of all rows, and its interval by bootstrap over the rows of each group.

    `value` gets, for each group, the numbers of the chosen rows, ``[draws, rows]``.
    """
    random = np.random.default_rng(0)
    drawn = value(*(random.integers(0, n, (_DRAWS, n)) for n in counts))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(value(*(np.arange(n)[None] for n in counts))[0]), float(low), float(high)


def cosines(run: Path | None) -> dict[str, list[tuple[int, float]]]:
    """Return the cosines of `earlier` with each other objective, as (step, value)."""
    found: dict[str, list[tuple[int, float]]] = {}
    file = run / "gradients.jsonl" if run else None
    for line in file.read_text("utf-8").splitlines() if file and file.is_file() else []:
        record = json.loads(line)
        names = record["objectives"]
        if "earlier" not in names or record.get("cosines") is None:
            continue
        for name, value in zip(names, record["cosines"][names.index("earlier")], strict=True):
            if name != "earlier" and value is not None:
                found.setdefault(name, []).append((record["step"], value))
    return found


class Results:
    """Models by the names of their runs; those that equal another one are found by both names."""

    def __init__(self, found: Sequence[Measured]) -> None:
        self.models = {each.name: each for each in found}
        self.target = self.models["target"]

    def get(self, name: str) -> Measured | None:
        """Return a model; None if it is not finished."""
        return self.models.get(name) or self.models.get(MADE_ANYWAY.get(name, ""))

    def sequence(self, arm: str) -> list[Measured]:
        """Return the models of an arm after each request, as far as they are finished."""
        models = [self.get(f"{arm}_{number}") for number in ALL]
        return models[: models.index(None)] if None in models else models  # type: ignore[return-value]

    def forgotten(self, model: Measured, request: int) -> Value:
        """Return `forgotten` of a request."""
        return forgotten(model, self.target, request)


# ----------------------------------------------------------------------------------------- tables


def markdown(found: Results) -> str:
    """Return all tables."""
    parts = ["#### After each request", "", *over_time(found), ""]
    parts += ["#### Parts, over the requests so far", "", *parts_table(found), ""]
    parts += ["#### A sequence, all at once, each alone", "", *compared(found), ""]
    parts += ["#### Cosines of earlier rows with the new request", "", *cosine_table(found), ""]
    return "\n".join(parts)


def over_time(found: Results) -> list[str]:
    """Return a line for each model of a sequence; requests that are not made yet in brackets."""
    lines = []
    for arm in ARMS:
        for number, model in enumerate(found.sequence(arm), start=1):
            values = {j: found.forgotten(model, j) for j in ALL}
            cells = [_cell(v) if j <= number else f"({v[0]:.2f})" for j, v in values.items()]
            lines.append([arm, str(number), *cells, *_stays(model, found.target)])
    heads = [f"request {number}" for number in ALL]
    return _table(["arm", "after", *heads, "kept", *(n for n, _ in STAYS), "declined"], lines)


def parts_table(found: Results) -> list[str]:
    """Return the ratios to the target behind `forgotten`, on all rows of the requests so far."""
    lines = []
    for arm in ARMS:
        for number, model in enumerate(found.sequence(arm), start=1):
            groups = [f"request {j}" for j in range(1, number + 1)]
            own, theirs = (
                _known([row for name in groups for row in m.groups[name]]).mean(0)
                for m in (model, found.target)
            )
            refused = fmean(model.mean(name, "refused") for name in groups)
            repeated = fmean(model.mean(name, "repetition") for name in groups)
            cells = [f"{ratio:.2f}" for ratio in (*(own / theirs), refused, repeated)]
            lines.append([arm, str(number), *cells])
    heads = ["recall", "probability", "extraction strength", "declined", "repetition"]
    return _table(["arm", "after", *heads], lines)


def compared(found: Results) -> list[str]:
    """Return the models after all requests, and the means of the models of each request alone."""
    lines = []
    for arm in ARMS:
        models = found.sequence(arm)
        if len(models) == REQUESTS:
            lines.append([f"{arm}, in sequence", *_whole(found, [(models[-1], j) for j in ALL])])
    for kind in dict.fromkeys(ARMS.values()):
        once = found.get(f"{kind}_at_once")
        if once:
            lines.append([f"{kind}, at once", *_whole(found, [(once, j) for j in ALL])])
        alone = [(found.get(f"{kind}_alone_{j}"), j) for j in ALL]
        made = [(model, j) for model, j in alone if model]
        if made:
            lines.append([f"{kind}, alone ({len(made)} of {REQUESTS})", *_whole(found, made)])
    return _table(["models", "forgotten", "lowest request", "kept", "declined"], lines)


def _whole(found: Results, pairs: Sequence[tuple[Measured, int]]) -> Iterator[str]:
    values = [found.forgotten(model, j)[0] for model, j in pairs]
    stays = {m.name: (kept(m, found.target)[0], m.mean(KEPT, "refused")) for m, _ in pairs}
    yield f"{fmean(values):.2f}"
    yield f"{min(values):.2f}"
    for place in range(2):
        yield f"{fmean(each[place] for each in stays.values()):.2f}"


def _stays(model: Measured, target: Measured) -> Iterator[str]:
    yield _cell(kept(model, target))
    for name, score in STAYS:
        yield f"{model.mean(name, score) / max(target.mean(name, score), 1e-9):.2f}"
    yield f"{model.mean(KEPT, 'refused'):.2f}"


def cosine_table(found: Results) -> list[str]:
    """Return the mean cosine of `earlier` with each objective, by arm and request."""
    lines = [
        [arm, str(number), name, f"{fmean(v for _, v in values):+.2f}", f"{values[0][1]:+.2f}"]
        for arm in ARMS
        for number, model in enumerate(found.sequence(arm), start=1)
        for name, values in cosines(model.run).items()
    ]
    return _table(["arm", "request", "with", "mean", "first step"], lines)


def _cell(value: Value) -> str:
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "| " + " | ".join(["---"] * len(heads)) + " |"
    return [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


# ----------------------------------------------------------------------------------------- files


def write_json(found: Results, file: Path) -> None:
    """Write the means of all scores of all models, with `forgotten` and `kept`."""
    content = {
        name: {
            "new": model.new,
            "before": model.before,
            "forgotten": {j: found.forgotten(model, j) for j in ALL},
            "kept": kept(model, found.target),
            "groups": {
                group: {s: fmean(r.scores[s] for r in rows) for s in rows[0].scores}
                | {"rows": len(rows)}
                for group, rows in model.groups.items()
            },
        }
        for name, model in found.models.items()
    }
    file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def write_docs(page: Path, text: str, pictures: Mapping[str, Path]) -> None:
    """Write tables and pictures between the marks of a page; pictures go into its `images`."""
    parts = [text]
    for title, file in pictures.items():
        copy = page.parent / "images" / f"requests_{file.name}"
        copy.write_bytes(file.read_bytes())
        parts += [f"![{title}](images/{copy.name})", "", f"*{title}*", ""]
    inside = "\n".join([BEGIN, "", *parts, END])
    marks = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    content = page.read_text("utf-8")
    if not marks.search(content):
        raise SystemExit(f"{page} should have the marks {BEGIN} and {END}")
    page.write_text(marks.sub(lambda _: inside, content), "utf-8")
