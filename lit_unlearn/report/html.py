"""Self-contained HTML pages from the templates in ``templates/``, with figures as inline SVG."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lit_unlearn.report.style import GRID, INK, lay_out
from lit_unlearn.utils.ownership import write_text

__all__ = ["svg", "write_page"]


def write_page(path: Path, template: str, values: Mapping[str, object]) -> None:
    """Write a page that needs no other file.

    `template` is the name of a template of this package without its suffix. The template escapes
    the texts in `values`; ``title`` is the title of the browser's tab.
    """
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = svg
    write_text(path, environment.get_template(f"{template}.html.j2").render(values) + "\n")


def svg(figure: Figure, title: str) -> Markup:
    """Return the figure as an SVG element in the page's text colour.

    The title is the alternative text, and part of all ids: these are unique if titles are.
    """
    lay_out(figure)
    buffer = io.StringIO()
    prefix = re.sub(r"\W+", "-", title.casefold())
    with matplotlib.rc_context({"svg.hashsalt": prefix, "svg.fonttype": "path"}):
        figure.set_facecolor("none")
        canvas, metadata = FigureCanvasSVG(figure), {"Date": None, "Creator": None}
        canvas.print_svg(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return Markup(
        re.sub(
            r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
            lambda found: (
                f'<svg role="img" aria-label="{escape(title)}" viewBox="{found[1]}" '
                'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
            ),
            text,
            count=1,
        )
    )
