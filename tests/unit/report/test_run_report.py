"""Tests of `lit_unlearn.report`: averages, JSON, figures and the page."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Row
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.evaluation.suites.answers import PREFILLED, answer_figures
from lit_unlearn.metrics.functional.scores import repetition
from lit_unlearn.report import (
    SCHEMA_VERSION,
    RunFacts,
    cosine_figure,
    heatmap_figure,
    loss_figure,
    norm_figure,
    read_gradients,
    summary_table,
    write_report,
    write_summary,
)
from lit_unlearn.utils.ownership import MARKER, write_text

FACTS = RunFacts("a/model", 3, 20, 125.0, "cpu", {"export": "runs/export"}, {"torch": "2.9"})
GATE = {
    "objective": "forget",
    "context": "a > b",
    "duty": "declines",
    "rows": 4,
    "share": 0.95,
    "threshold": 0.8,
    "passed": True,
}
NAMES = ["forget", "retain", "neighbor"]


def answer(
    objective: str = "forget",
    number: int = 0,
    *,
    prefill: str = "",
    gold: str = "gold",
    correct: bool | None = True,
    refused: bool = False,
    nll: float = 1.0,
    generated: str = "reply",
) -> Row:
    group = f"{objective}{PREFILLED if prefill else ''}"
    scores = {
        "correct": math.nan if correct is None else float(correct),
        "refused": float(refused),
        "repetition": repetition(generated),
        "rouge_l_recall": math.nan if not gold else float(bool(correct)),
        "answer_nll": nll,
    }
    asked = f"What?{prefill and f' [begun for it: {prefill}]'}"
    return Row(f"{group}/set/{number}", group, scores, asked, gold, generated)


def record(*rows: Row) -> EvaluationRecord:
    suite = SuiteRecord("answers", {}, 0, 0, rows, answer_figures(rows))
    return EvaluationRecord("a/model", "", {"answers": suite})


def gradient(step: int, groups: int = 3) -> dict[str, Any]:
    """Cosines -.5 (forget, retain), .25 (forget, neighbor), undefined (retain, neighbor)."""
    cosines = [[1.0, -0.5, 0.25], [-0.5, 1.0, math.nan], [0.25, math.nan, 1.0]]
    return {
        "step": step,
        "objectives": NAMES,
        "norms": [2.0, 1.0, 0.0],
        "cosines": cosines,
        "weights": [1.0, 1.0, 1.0],
        "conflict_rate": 1 / 3,
        "update_cosines": [0.5, 0.5, math.nan],
        "losses": [3.0, 2.0, 1.0],
        "groups": ["embedding", *(f"block.{n:02d}" for n in range(groups - 2)), "head"],
        "group_cosines": [cosines] * groups,
    }


# ----------------------------------------------------------------------------------------- table


def test_table_shows_before_and_after_with_prefilled_rows_beneath() -> None:
    before = record(answer(), answer(prefill="Sure"), answer("everyday", correct=None))
    after = record(answer(correct=False, refused=True, nll=4.0), answer(prefill="Sure"))
    table = summary_table(before, after)
    columns = [list(map(str, column.cells)) for column in table.columns]
    rows = {name.strip(): rest for name, *rest in zip(*columns, strict=True)}
    Console(file=io.StringIO()).print(table)
    changed = ["100 %→0 %", "0 %→100 %", "0.00→0.00", "1.00→0.00", "1.00→4.00"]
    assert rows["forget"] == ["1", *changed]
    assert rows["with prefill"][1] == "100 %→100 %"
    assert rows["everyday"][1:3] == ["\u2013\u2192\u2013", "0 %\u2192\u2013"]


def test_table_fits_into_80_columns() -> None:
    """The longest cells, "100 %->100 %" and two-digit likelihoods, and a name of 16 letters."""
    name = "a" * 16
    found = record(answer(name, nll=10.0), answer(name, prefill="Sure", nll=10.0))
    file = io.StringIO()
    Console(file=file, width=80).print(summary_table(found, found))
    text = file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("100 %→100 %") == 2
    assert text.count("10.00→10.00") == 2
    assert name in text
    assert "…" not in text


# ------------------------------------------------------------------------------------------ JSON


def test_summary_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "summary.json"
    before = record(answer(), answer("ask", gold="", correct=None, nll=math.nan))
    write_summary(path, before, record(answer(correct=False)), FACTS)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["schema_version"] == SCHEMA_VERSION
    assert found["run"]["seed"] == 3
    assert found["run"]["paths"] == {"export": "runs/export"}
    forget, ask = found["objectives"]
    assert (forget["objective"], forget["prefilled"]) == ("forget", False)
    assert (forget["before"]["correct_rate"], forget["after"]["correct_rate"]) == (1.0, 0.0)
    assert ask["before"]["answer_nll"] is None  # not measured
    assert ask["after"] is None
    assert set(forget["before"]) - {"rows"} <= set(found["units"])
    assert {each.name for each in path.parent.iterdir()} == {path.name, MARKER}


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_summary(path, record(), record(), FACTS)
    assert path.read_text(encoding="utf-8") == "old"
    assert {each.name for each in tmp_path.iterdir()} == {path.name, MARKER}


# ------------------------------------------------------------------------------------- gradients


def test_read_gradients_turns_null_into_nan(tmp_path: Path) -> None:
    path = tmp_path / "gradients.jsonl"
    text = json.dumps(gradient(5)).replace("NaN", "null")
    path.write_text(f"{text}\n\n{text}\n", encoding="utf-8")
    first, second = read_gradients(path)
    assert first["step"] == 5
    assert math.isnan(first["cosines"][1][2])
    np.testing.assert_equal(first["group_cosines"], second["group_cosines"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"step": 1', "line 2: expected a JSON object.*remove it"),
        ("[1]", "line 2: .* without all keys"),
        ('{"step": 1}', r"line 2: .* without \['conflict_rate', 'cosines'"),
    ],
)
def test_bad_gradient_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "gradients.jsonl"
    path.write_text(json.dumps(gradient(1)) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_gradients(path)


def test_missing_gradient_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jsonl: expected the gradient table"):
        read_gradients(tmp_path / "nothing.jsonl")


# --------------------------------------------------------------------------------------- figures


def draw(figure: Figure) -> None:
    """Draws it, so that warnings of the drawing become errors of the test."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 3, 60])
@pytest.mark.parametrize("make", [cosine_figure, norm_figure, loss_figure, heatmap_figure])
def test_figures_draw(make: Any, count: int) -> None:
    figure = make([gradient(5 * n) for n in range(count)])
    draw(figure)
    assert any(axes.lines or axes.images for axes in figure.axes)


def test_cosine_figure_has_a_line_per_pair() -> None:
    axes = cosine_figure([gradient(0), gradient(5)]).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["forget ~ retain"] == [-0.5, -0.5]
    assert lines["forget ~ neighbor"] == [0.25, 0.25]
    assert "retain ~ neighbor" in lines


def test_heat_map_is_centred_at_zero_and_shows_groups_and_pairs() -> None:
    later = gradient(5)
    later["group_cosines"] = (np.array(later["group_cosines"]) * 0.5).tolist()
    records = [gradient(0), later]
    axes = heatmap_figure(records).axes[0]
    (image,) = axes.images
    # mean of -.5 and -.25 is -.375; of .25 and .125 .1875; the limit above .375 is .5
    np.testing.assert_allclose(
        np.ma.filled(image.get_array(), np.nan)[:, 0], [-0.375, 0.1875, np.nan]
    )
    assert image.get_clim() == (-0.5, 0.5)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["embedding", "block.00", "head"]
    assert [t.get_text() for t in axes.texts][:3] == ["-0.38"] * 3
    only = heatmap_figure(records, step=5).axes[0]
    assert float(only.images[0].get_array()[0, 0]) == pytest.approx(-0.25)


def test_one_objective_and_zero_norms_draw() -> None:
    record = gradient(0)
    record.update(objectives=["forget"], norms=[0.0], cosines=[[math.nan]], losses=[math.nan])
    for make in (norm_figure, loss_figure):
        draw(make([record]))
    for make in (cosine_figure, heatmap_figure):
        figure = make([record])
        draw(figure)
        assert "no pair" in figure.axes[0].texts[0].get_text()


def test_figures_of_nothing_are_errors() -> None:
    for make in (cosine_figure, norm_figure, loss_figure, heatmap_figure):
        with pytest.raises(InputError, match="records: expected at least one diagnosed step"):
            make([])
    with pytest.raises(InputError, match=r"step: expected a diagnosed step \(0\), found 3"):
        heatmap_figure([gradient(0)], step=3)


# ------------------------------------------------------------------------------------------ page


class _Reader(HTMLParser):
    """Collects what a page would fetch, its ids, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            inside = str(value).startswith(("#", "data:"))
            if name in {"src", "href", "xlink:href", "data"} and not inside:
                self.fetched.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    attack = "<script>alert('x')</script> & {{ body }}"
    write_report(
        path,
        facts=FACTS,
        before=record(answer(generated="Lima"), answer(prefill="Sure", generated="it is Lima")),
        after=record(
            answer(generated=attack, correct=False), answer(prefill="Sure", generated="no")
        ),
        gradients=[gradient(0), gradient(5)],
        gate=[SimpleNamespace(**GATE)],
        config="model: <x>\n",
    )
    return path.read_text(encoding="utf-8")


def test_page_is_whole_and_fetches_nothing(page: str) -> None:
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.fetched == []
    assert "url(http" not in page
    assert "@import" not in page
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.tags.count("figure") == 6
    assert "script" not in reader.tags


def test_page_says_everything_once_escaped(page: str) -> None:
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; {{ body }}" in page
    assert "model: &lt;x&gt;" in page
    for text in ("a/model", "seed 3", "2 min 5 s", "Lima", "[begun for it: Sure]", "runs/export"):
        assert text in page
    assert "Teacher gate" in page
    for text in ("a &gt; b", "95%", "80%", "yes"):
        assert f"<td>{text}</td>" in page


def test_page_pictures_take_the_text_colour(page: str) -> None:
    assert "currentColor" in page
    assert "prefers-color-scheme: dark" in page
    assert 'role="img" aria-label="Cosine of each pair of objectives&#39; gradients' in page


def test_page_is_the_same_each_time(tmp_path: Path) -> None:
    texts = []
    for name in ("a.html", "b.html"):
        write_report(
            tmp_path / name,
            facts=FACTS,
            before=record(),
            after=record(answer()),
            gradients=[gradient(0)],
        )
        texts.append((tmp_path / name).read_text(encoding="utf-8"))
    assert texts[0] == texts[1]


def test_page_of_an_empty_run(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, facts=RunFacts("m", 0, 0, 0.4, "cpu"), before=record(), after=record())
    assert "No evaluation rows" in path.read_text(encoding="utf-8")


def test_at_most_eight_replies_per_objective_spread_evenly(tmp_path: Path) -> None:
    rows = [answer(number=n, generated=f"reply {n:02d}.") for n in range(40)]
    write_report(tmp_path / "r.html", facts=FACTS, before=record(), after=record(*rows))
    shown = re.findall(r"reply (\d\d)\.", (tmp_path / "r.html").read_text(encoding="utf-8"))
    assert shown == ["00", "05", "10", "15", "20", "25", "30", "35"]
