"""``evaluation.html``: self-contained, everything in it, nothing of it taken for HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.report.evaluation_gallery import gallery
from lit_unlearn.report.evaluation_page import SAMPLES, write_evaluation_page
from lit_unlearn.report.evaluation_show import show_evaluations
from tests.unit.report.records import UNIT, evaluation, figures, row, suite
from tests.unit.report.test_evaluation_gallery import parts


def text_of(html: str) -> str:
    """What a reader sees of a page, pictures left out."""
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_data = found.append  # type: ignore[method-assign]
    parser.feed(re.sub(r"<(svg|style).*?</\1>", "", html, flags=re.DOTALL))
    return " ".join("".join(found).split())


def page(tmp_path: Path, **columns: object) -> str:
    file = tmp_path / "evaluation.html"
    write_evaluation_page(
        file,
        columns,  # type: ignore[arg-type]
        gallery(columns),  # type: ignore[arg-type]
        title="A & B",
        marks={("tofu", "forget/recall"): ["p 0.25"] * len(columns)},
        remarks=["Suite x is missing."],
    )
    return file.read_text("utf-8")


def test_everything_is_there(tmp_path: Path) -> None:
    html = page(
        tmp_path,
        start=evaluation(model="the/start"),
        this=evaluation(suite("tofu", figures(0.2)), balance=parts(0.1, 0.2, 0.3, 0.4)),
    )
    text = text_of(html)
    for part in (
        "A & B",
        "the/start",
        "Suite x is missing.",
        "0.200 [0.100, 0.300]",
        "p 0.25",
        "needs a reference",
        "part/robustness",
        "Question 1?",
        "processor seconds",
        '"dtype": "float32"',
    ):
        assert part in text
    assert html.count("<svg") == 2
    assert text.index("balance") < text.index("tofu")


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    html = page(tmp_path, this=evaluation())
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(link.startswith("#") for link in links)
    assert "<script" not in html


def test_replies_are_no_html(tmp_path: Path) -> None:
    record = evaluation(suite("<i>", [Figure("<b>", 1.0, UNIT, 1)], [row(0, reply="<script>x")]))
    html = page(tmp_path, **{"<u>": record})
    assert not re.search("<(script|i|b|u)>", html)
    assert "<script>x" in text_of(html)


def test_few_rows_of_each_group_with_every_models_reply(tmp_path: Path) -> None:
    """Twenty rows of two groups: six of each, spread evenly; the second model lacks one."""
    rows = [row(n, group=group, reply=f"first {group} {n}") for group in "ab" for n in range(20)]
    others = [row(n, group=group, reply=f"second {group} {n}") for group in "ab" for n in range(9)]
    text = text_of(
        page(
            tmp_path,
            one=evaluation(suite("tofu", figures(), rows)),
            two=evaluation(suite("tofu", figures(), others)),
        )
    )
    assert len(re.findall(r"first a \d+", text)) == SAMPLES
    assert re.findall(r"first b (\d+)", text) == [str(n * 20 // SAMPLES) for n in range(SAMPLES)]
    assert "second b 6" in text
    assert "second b 10" not in text


def test_rows_without_reply_make_no_section(tmp_path: Path) -> None:
    record = evaluation(suite("tofu", figures(), [row(0, reply="")]))
    assert "Replies" not in text_of(page(tmp_path, this=record))


def test_showing_prints_the_table_and_where_everything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_evaluations(
        tmp_path / "evaluation.html",
        {"this": evaluation()},
        title="T",
        remarks=["[remark]"],
        places={"figures": tmp_path / "metrics.json"},
    )
    text = capsys.readouterr().out
    assert "forget/recall" in text
    assert "[remark]" in text
    for name in ("metrics.json", "evaluation.html", "pictures"):
        assert str(tmp_path / name) in text
    assert (tmp_path / "pictures" / "tofu.png").exists()
