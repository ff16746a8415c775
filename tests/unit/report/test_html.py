"""Pages in general: whatever a template shows is text, and never HTML or a part of a template."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from matplotlib.figure import Figure

from lit_unlearn.report.html import svg, write_page

HOSTILE = """</pre></script><script>x</script> "q" 'a' {{ title }} {% block %}"""
ESCAPED = (
    "&lt;/pre&gt;&lt;/script&gt;&lt;script&gt;x&lt;/script&gt; "
    "&#34;q&#34; &#39;a&#39; {{ title }} {% block %}"
)
VALUES = {
    "title": HOSTILE,
    "written": HOSTILE,
    "columns": [HOSTILE],
    "counts": [[HOSTILE]],
    "lost": {HOSTILE: HOSTILE},
    "samples": [(HOSTILE, [HOSTILE], [[HOSTILE, "two\n  lines"]])],
    "settings": HOSTILE,
}


def test_whatever_is_shown_is_text(tmp_path: Path) -> None:
    """Two titles, one sentence, one table of a heading and a cell, three folds: 11 times."""
    write_page(tmp_path / "new/page.html", "rewriting", VALUES)
    html = (tmp_path / "new/page.html").read_text("utf-8")
    assert html.count(ESCAPED) == 11
    assert "<script" not in html
    assert "<td>two\n  lines</td>" in html
    assert f"<pre>{ESCAPED}</pre>" in html


def test_a_value_that_a_template_misses_is_an_error(tmp_path: Path) -> None:
    values = {key: value for key, value in VALUES.items() if key != "written"}
    with pytest.raises(jinja2.UndefinedError, match="written"):
        write_page(tmp_path / "page.html", "rewriting", values)
    assert list(tmp_path.iterdir()) == []


def test_the_title_of_a_picture_is_text() -> None:
    text = svg(Figure(), 'a "b" <c> \\1')
    assert 'aria-label="a &#34;b&#34; &lt;c&gt; \\1"' in text
    assert text.startswith("<svg")
    assert 'id="a-b-c-1-' in text
