"""The building blocks of every page: tables, folds, inline pictures, and the page around them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape

import matplotlib
from matplotlib.figure import Figure

from lit_unlearn.report.style import GRID, INK


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page that needs nothing else, light or dark as the reader's system is.

    Args:
        title: For the browser's tab; plain text.
        parts: HTML, empty ones are left out.
    """
    body = "\n".join(part for part in parts if part)
    return _PAGE.replace("{title}", escape(title)).replace("{body}", body)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> str:
    """A table of plain texts; one that is too wide scrolls by itself.

    Args:
        columns: Headings.
        rows: Texts, one per column.
        whole: Show all rows; otherwise a long table scrolls as well.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    kind = "scroll whole" if whole else "scroll"
    return (
        f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def fold(title: str, content: str) -> str:
    """HTML that a click on its title (plain text) shows."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def picture(figure: Figure, title: str) -> str:
    """The figure as inline SVG whose ink is the page's text colour and whose ids are its own."""
    buffer = io.StringIO()
    prefix = re.sub(r"\W+", "-", title.casefold())
    with matplotlib.rc_context({"svg.hashsalt": prefix, "svg.fonttype": "path"}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", facecolor="none", metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    label = escape(title, quote=True)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg role="img" aria-label="{label}" viewBox="\1" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
        count=1,
    )
    width = figure.get_figwidth() * 96
    return f'<figure style="max-width:{width:.0f}px">{svg}</figure>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root { --ground: #ffffff; --raised: #f4f5f7; --text: #1f2328; --quiet: #57606a; --line: #9aa0a6;
  --edge: #d8dce1; }
@media (prefers-color-scheme: dark) { :root { --ground: #16191d; --raised: #20252b;
  --text: #e6e9ed; --quiet: #a4acb5; --line: #78808a; --edge: #363d46; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--ground);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { color: var(--quiet); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .8rem; }
.card { background: var(--raised); border-radius: 10px; padding: .8rem 1rem; }
.card h3 { font-size: .95rem; margin: 0; } .card p { margin: 0; font-size: .85rem; }
.card .figure { color: var(--text); font-size: 1.35rem; font-weight: 600; white-space: nowrap; }
.card .figure span { color: var(--quiet); font-weight: 400; }
.scroll { overflow: auto; max-height: 34rem; border: 1px solid var(--edge); border-radius: 8px; }
.whole { max-height: none; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--raised); font-weight: 600; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem;
  border-bottom: 1px solid var(--edge); overflow-wrap: anywhere; white-space: pre-wrap; }
tbody tr:last-child td { border-bottom: 0; }
figure { margin: 1.2rem 0; } figure svg { width: 100%; height: auto; display: block; }
details { margin: .5rem 0; } summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
pre { background: var(--raised); border-radius: 8px; padding: 1rem; overflow: auto;
  max-height: 40rem; font-size: .85rem; }
</style>
</head>
<body>
{body}
</body>
</html>
"""
