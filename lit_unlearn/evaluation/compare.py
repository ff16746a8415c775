"""Compare evaluations: paired tests of each figure on the rows that both have."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.metrics.functional.statistics import mcnemar_exact, mean, sign_flip_test
from lit_unlearn.utils.ownership import check_targets, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text

__all__ = ["COMPARE_SCHEMA", "ComparedRuns", "Comparison"]
__all__ += ["compare", "compare_evaluations", "headings", "holm", "not_common"]

COMPARE_SCHEMA = 1
"""Version of ``compare.json``; increased when the name or meaning of a key changes."""


@dataclass(frozen=True)
class Comparison:
    """One score of one group of rows, in two evaluations."""

    suite: str
    figure: str
    """Name of the figure, ``<group>/<score>``."""
    rows: int
    """Number of rows with this score in both; a row that is asked several times counts once."""
    first: float
    """Mean over these rows in the first evaluation."""
    second: float
    test: str
    """`McNemar, exact` if every score is 0 or 1, otherwise `sign flips`."""
    p_value: float
    """Two-sided."""
    p_holm: float = math.nan
    """Corrected for the number of figures compared."""


@dataclass(frozen=True)
class ComparedRuns:
    """Several evaluations, compared with the first of them."""

    records: Mapping[str, EvaluationRecord]
    """Heading -> evaluation, in the order given."""
    comparisons: Mapping[str, Sequence[Comparison]]
    """Heading of each further evaluation -> its comparison with the first."""
    remarks: Sequence[str]
    """Sentences about rows, suites and settings that differ."""


def compare(runs: Sequence[str | Path], output: str | Path | None = None) -> ComparedRuns:
    """Compare evaluations with the first of them.

    Every figure that is a mean over rows is tested on the rows that both evaluations have.

    Args:
        runs: At least two folders that `evaluate` has written.
        output: Folder for ``compare.json``; None writes nothing.

    Returns:
        The evaluations, and the comparison of each further one with the first.

    Raises:
        InputError: There are fewer than two folders, one holds no evaluation, or no row is common.

    Example::

        found = compare(["runs/start", "runs/unlearned"])
        for each in found.comparisons["unlearned"]:
            print(each.figure, each.first, each.second, each.p_holm)
    """
    folders = [local_path(run) for run in runs]
    if len(folders) < 2:
        raise InputError(
            f"Parameter `runs` should hold at least two folders. Found {len(folders)}."
        )
    file = None if output is None else local_path(output) / "compare.json"
    if file is not None:
        check_targets(file.parent, [file], folders, "--output")
    records = dict(zip(headings(folders), map(read_evaluation, folders), strict=True))
    first, *others = records
    found = {name: compare_evaluations(records[first], records[name]) for name in others}
    if not any(found.values()):
        raise InputError(
            "Parameter `runs` should hold evaluations with rows in common. Found none; evaluate "
            "with the same suites and settings."
        )
    compared = ComparedRuns(records, found, not_common(records))
    if file is not None:
        write_text(file, json_text(_content(folders, compared), indent=2) + "\n")
    return compared


def headings(runs: Sequence[Path]) -> list[str]:
    """Return the shortest endings of paths that are all different; refuse a repeated folder."""
    parts = [run.absolute().parts for run in runs]
    if len(set(parts)) < len(parts):
        raise InputError("Parameter `runs` should hold different folders. Found a folder twice.")
    lengths = range(1, max(map(len, parts)) + 1)
    ends = (["/".join(part[-length:]) for part in parts] for length in lengths)
    return next(names for names in ends if len(set(names)) == len(names))


def _content(runs: Sequence[Path], compared: ComparedRuns) -> dict[str, object]:
    return {
        "schema_version": COMPARE_SCHEMA,
        "runs": [
            {"name": name, "folder": run, "model": record.model, "fingerprint": record.fingerprint}
            for run, (name, record) in zip(runs, compared.records.items(), strict=True)
        ],
        "first": next(iter(compared.records)),
        "comparisons": {
            name: [asdict(each) for each in members]
            for name, members in compared.comparisons.items()
        },
        "not_common": list(compared.remarks),
    }


def compare_evaluations(first: EvaluationRecord, second: EvaluationRecord) -> list[Comparison]:
    """Compare every figure that is a mean of row scores; p-values get Holm's correction.

    Rows are matched by suite and id. A figure of a whole group (a p-value, a harmonic mean) has no
    rows and is left out.
    """
    common = [name for name in first.suites if name in second.suites]
    found = [c for n in common for c in _compare_suites(first.suites[n], second.suites[n])]
    corrected = holm([comparison.p_value for comparison in found])
    return [replace(c, p_holm=p) for c, p in zip(found, corrected, strict=True)]


def _compare_suites(first: SuiteRecord, second: SuiteRecord) -> list[Comparison]:
    others = {row.row_id: row.scores for row in second.rows}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in first.rows:
        for score, value in row.scores.items():
            other = others.get(row.row_id, {}).get(score, math.nan)
            if math.isfinite(value) and math.isfinite(other):
                units = found.setdefault(f"{row.group}/{score}", {})
                units.setdefault(row.asked_of or row.row_id, []).append((value, other))
    shown = [figure.name for figure in first.figures if figure.name in found]
    return [_compare(first.suite, name, found[name].values()) for name in shown]


def _compare(suite: str, figure: str, units: Iterable[Sequence[tuple[float, float]]]) -> Comparison:
    """Test one pair of means per question, since attempts on one question are not independent."""
    means = [[mean(side) for side in zip(*pairs, strict=True)] for pairs in units]
    before, after = [a for a, _ in means], [b for _, b in means]
    binary = {*before, *after} <= {0.0, 1.0}
    p_value = (
        mcnemar_exact([a == 1 for a in before], [b == 1 for b in after])
        if binary
        else sign_flip_test(before, after)
    )
    test = "McNemar, exact" if binary else "sign flips"
    return Comparison(suite, figure, len(means), mean(before), mean(after), test, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979), in the given order.

    The k-th smallest of n is multiplied by n - k + 1; the results keep the order of the p-values
    and are at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for passed, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - passed) * p_values[index]))
        corrected[index] = highest
    return corrected


def not_common(columns: Mapping[str, EvaluationRecord]) -> list[str]:
    """Return sentences that say what cannot be compared with the first evaluation."""
    first, *others = columns
    said = []
    for heading in others:
        base, record = columns[first].suites, columns[heading].suites
        for suite in dict.fromkeys([*base, *record]):
            if suite not in base or suite not in record:
                holder = first if suite in base else heading
                said.append(f"Suite {suite} is only in {holder} and is not compared.")
                continue
            if base[suite].settings != record[suite].settings:
                said.append(f"Suite {suite} has other settings in {heading} than in {first}.")
            left = {row.row_id for row in base[suite].rows}
            right = {row.row_id for row in record[suite].rows}
            if left != right:
                said.append(
                    f"Suite {suite}: {len(left & right)} rows are common to {first} "
                    f"({len(left)}) and {heading} ({len(right)}); only these are tested."
                )
    return said
