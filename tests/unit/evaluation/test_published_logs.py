"""Logs of open-unlearning and of the TOFU authors: our figures of their rows are theirs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.log_export import exported_log
from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.published_logs import (
    PREFIXES,
    Log,
    informed,
    is_log,
    log_record,
    log_rows,
    ratio_name,
    read_log,
)
from lit_unlearn.evaluation.records import SuiteRecord, settings_of
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.muse import Muse
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.evaluation.suites.tofu import RATIO, Tofu
from lit_unlearn.metrics.functional.membership import priv_leak
from lit_unlearn.metrics.functional.statistics import auc
from tests.unit.metrics.functional.test_golden_tofu import PUBLISHED, UTILITY

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
PLAIN = Tofu(forget_quality=False)
FIRST = "tofu_llama32_1b_retain90_first12.json.gz"


def values(rows: list[Row], suite: Tofu = PLAIN, **reference: Any) -> dict[str, float]:
    return {figure.name: figure.value for figure in suite.figures(rows, **reference)}


@cache
def rows_of(path: Path) -> list[Row]:
    """All rows of a log; ROUGE of a thousand replies takes a second."""
    return log_rows(read_log(path), PLAIN)


@cache
def values_of(path: Path) -> dict[str, float]:
    return values(rows_of(path))


def by_index(log: Log, figure: str) -> Iterator[tuple[str, Any]]:
    yield from log.values(figure).items()


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_figures_of_the_tofu_authors_logs(published_logs: Path, model: str) -> None:
    """To the printed digits, from all of the rows; see `tests/data/README.md`."""
    path = published_logs / f"tofu_llama2_7b_{model}.json.gz"
    found = values_of(path)
    assert read_log(path).program == "TOFU"
    assert found["model_utility"] == pytest.approx(UTILITY[model], abs=5e-5)
    for group, published in PUBLISHED[model].items():
        names = ("probability", "rouge_l_recall", "truth_ratio")
        for name, value in zip(names, published, strict=True):
            assert found[f"{group}/{name}"] == pytest.approx(value, abs=5e-5), (group, name)


def test_forget_quality_of_one_log_against_another(published_logs: Path) -> None:
    """The published test on 300 truth ratios: D = .396667, p = 1.834066e-21."""
    full, retain = (
        [
            row
            for row in rows_of(published_logs / f"tofu_llama2_7b_{model}.json.gz")
            if row.group == "forget"
        ]
        for model in ("full", "retain90")
    )
    found = values(full, Tofu(), reference={"forget": retain})
    assert found["forget_quality"] == pytest.approx(1.834066e-21, rel=1e-5)
    assert found["forget_distance"] == pytest.approx(0.396667, abs=5e-7)


def test_each_row_of_open_unlearnings_log(published_logs: Path) -> None:
    """What it prints for a row follows from the row's losses and texts.

    It adds 1e-10 to probabilities in a denominator, which counts where they are about 1e-6.
    """
    log = read_log(published_logs / FIRST)
    rows = {row.row_id: row.scores for row in log_rows(log, PLAIN)}
    assert log.program == "open-unlearning"
    assert len(rows) == 4 * 12
    for group, prefix in PREFIXES.items():
        likely = f"{prefix}_Q_A_Prob{'' if group in ('forget', 'retain') else '_normalised'}"
        for index, row in by_index(log, likely):
            assert rows[f"{group}/{index}"]["probability"] == pytest.approx(row["prob"], rel=1e-3)
        for index, row in by_index(log, f"{prefix}_Q_A_ROUGE"):
            own = rows[f"{group}/{index}"]["rouge_l_recall"]
            assert own == pytest.approx(row["rougeL_recall"], abs=1e-9)
        for index, row in by_index(log, ratio_name(prefix)):
            assert rows[f"{group}/{index}"][RATIO] == pytest.approx(row["score"], rel=1e-3)
    assert rows["forget/0"]["extraction_strength"] == pytest.approx(1 / 13)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the whole logs")
@pytest.mark.parametrize("model", ["full_forget10", "retain90"])
def test_the_figures_of_open_unlearnings_whole_logs(model: str) -> None:
    path = GOLDEN / f"ou_tofu_llama32_1b_{model}.json.gz"
    log, found = read_log(path), values_of(path)
    expected = {"model_utility": "model_utility", "forget/truth_ratio": "forget_truth_ratio"}
    expected |= {
        "forget/probability": "forget_Q_A_Prob",
        "forget/rouge_l_recall": "forget_Q_A_ROUGE",
    }
    expected |= {"forget/extraction_strength": "extraction_strength"}
    expected |= {"forget/exact_memorisation": "exact_memorization"}
    for ours, theirs in expected.items():
        assert found[ours] == pytest.approx(log.figures[theirs]["agg_value"], abs=5e-5), ours


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the whole logs")
def test_forget_quality_and_privacy_leakage_of_whole_logs() -> None:
    """Of full_forget10 against retain90: p = 3.9054713571083378e-22, -99.45739100654656 %."""
    paths = [GOLDEN / f"ou_tofu_llama32_1b_{m}.json.gz" for m in ("full_forget10", "retain90")]
    logs = [*map(read_log, paths)]
    full, retain = ([row for row in rows_of(path) if row.group == "forget"] for path in paths)
    found = values(full, Tofu(), reference={"forget": retain})
    assert found["forget_quality"] == pytest.approx(3.9054713571083378e-22, rel=1e-9)
    sides = ("forget", "holdout")
    scores = [
        [
            [row["score"] for row in log.figures["mia_min_k"][side]["value_by_index"].values()]
            for side in sides
        ]
        for log in logs
    ]
    found_leak = priv_leak(*(auc(*pair) for pair in scores))
    assert found_leak == pytest.approx(logs[0].figures["privleak"]["agg_value"], abs=1e-6)


# --------------------------------------------------------------------------------- as the reference


def written(folder: Path, content: object, name: str = "TOFU_EVAL.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(content), "utf-8")
    return file


@pytest.fixture
def suite() -> Tofu:
    """Eight rows of each group."""
    eight = Selection(limit=8)
    return Tofu(
        forget_split="forget10",
        forget=eight,
        retain=eight,
        real_authors=eight,
        world_facts=eight,
        max_new_tokens=2,
    )


def test_a_log_is_the_reference_of_an_evaluation(
    published_logs: Path, benchmark_data: Path, suite: Tofu, tmp_path: Path
) -> None:
    """Rows are found by their gold answers, so that any selection of rows can be asked.

    Our own evaluation is exported in the same layout, and is the reference of another one.
    """
    log = published_logs / FIRST
    assert is_log(log)
    assert not is_log(tmp_path / "no.json")
    settings: dict[str, Any] = {"data_root": benchmark_data, "limit": 3}
    found = evaluate("random-tiny", suite, reference=log, output=tmp_path / "a", **settings)
    figures = {f.name: f.value for f in found.records["model"].suites["tofu"].figures}
    assert 0 < figures["forget_quality"] <= 1
    record = found.records["reference"]
    assert record.settings == {"log": "open-unlearning"}
    assert {row.group: row.row_id for row in record.suites["tofu"].rows}.keys() == PREFIXES.keys()
    own = tmp_path / "a" / "TOFU_EVAL.json"
    again = evaluate("random-tiny", suite, reference=own, **settings)
    figures = {f.name: f.value for f in again.records["model"].suites["tofu"].figures}
    assert figures["forget_quality"] == 1.0
    rows = {row.row_id: row.scores for row in again.records["reference"].suites["tofu"].rows}
    for row in found.records["model"].suites["tofu"].rows:
        same = {name: row.scores[name] for name in rows[row.row_id]}
        assert rows[row.row_id] == pytest.approx(same)


def test_a_log_of_other_rows_is_refused(
    published_logs: Path, benchmark_data: Path, suite: Tofu
) -> None:
    other = replace(suite, forget_split="forget01")
    with pytest.raises(InputError, match=r"found none with its gold answers.*forget_split"):
        log_record(published_logs / FIRST, {"tofu": other}, benchmark_data)
    with pytest.raises(InputError, match=r"expected the suite tofu or muse.*found boundary"):
        log_record(published_logs / FIRST, {"boundary": Boundary()}, None)


def test_muse_takes_the_retain_models_auc_from_a_log(published_logs: Path) -> None:
    source = Source("texts.txt")
    given = {"muse": Muse(members=source, holdout=source), "own": Muse(retain_auc=0.5)}
    found = informed(given, published_logs / FIRST)
    sides = read_log(published_logs / FIRST).figures["mia_min_k"]
    scores = [
        [row["score"] for row in sides[side]["value_by_index"].values()]
        for side in ("forget", "holdout")
    ]
    assert found["muse"] == replace(given["muse"], retain_auc=auc(*scores))
    assert found["own"] == given["own"]


def test_a_damaged_column_of_min_k_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"mia_min_k": {"agg_value": 1, "forget": 2}})
    with pytest.raises(InputError, match="expected the columns of a log of open-unlearning"):
        informed({"muse": Muse()}, file)


def test_a_log_with_truth_ratios_alone_gives_forget_quality(tmp_path: Path) -> None:
    """Retain logs often hold nothing else."""
    ratios = {str(n): {"score": 0.5 + n} for n in range(5)}
    content = {"forget_truth_ratio": {"agg_value": 0.5, "value_by_index": ratios}}
    rows = log_rows(read_log(written(tmp_path, content)), PLAIN)
    assert [row.scores[RATIO] for row in rows] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert rows[0].scores["truth_ratio"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "expected a log of open-unlearning"),
        ([1], "expected a log of open-unlearning"),
        (
            {"forget_Q_A_Prob": {"agg_value": 1, "value_by_index": {"x": {"avg_loss": 1}}}},
            "expected the columns of a log of open-unlearning",
        ),
        (
            {"forget_Q_A_Prob": {"agg_value": 1, "value_by_index": {"0": {"avg_loss": "a"}}}},
            "expected the columns of a log of open-unlearning",
        ),
        (
            {"forget_Q_A_Prob": {"agg_value": 1, "value_by_index": {"0": {"avg_loss": -1e9}}}},
            "expected the columns of a log of open-unlearning",
        ),
        ({"eval_log.json": {"generated_text": {"0": ["a"]}}}, "columns of a log of TOFU"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        log_rows(read_log(written(tmp_path, content)), PLAIN)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{", "utf-8")
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b"{}")[:-6])
    for name in ("a.json", "b.json.gz"):
        with pytest.raises(InputError, match="expected a readable JSON file"):
            read_log(tmp_path / name)


def test_an_exported_log_has_the_aggregates_of_our_figures(published_logs: Path) -> None:
    rows = rows_of(published_logs / "tofu_llama2_7b_retain90.json.gz")
    scores = {"extraction_strength": 0.5, "exact_memorisation": 0.25}
    rows = [replace(row, scores={**scores, **row.scores}) for row in rows]
    record = SuiteRecord("tofu", settings_of(PLAIN), 0, 0, rows, PLAIN.figures(rows))
    found = exported_log(record)
    assert found["model_utility"]["agg_value"] == pytest.approx(0.6137, abs=5e-5)
    assert found["forget_truth_ratio"]["agg_value"] == pytest.approx(0.6740, abs=5e-5)
    assert found["ra_Q_A_Prob_normalised"]["agg_value"] == pytest.approx(0.4341, abs=5e-5)
    assert len(found["forget_Q_A_ROUGE"]["value_by_index"]) == 300
    assert found["extraction_strength"]["value_by_index"]["7"] == {"score": 0.5}
