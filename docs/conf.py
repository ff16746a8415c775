"""Configuration of the documentation site: `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from generated_pages import write_all  # noqa: E402

import lit_unlearn  # noqa: E402

project = "lit_unlearn"
author = "The lit_unlearn authors"
version = release = lit_unlearn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "images"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

smartquotes = False  # options are typed with plain quotes

html_theme = "furo"
html_title = f"lit_unlearn {version}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
default_role = "code"  # docstrings write `name` for code

# References to public names must resolve; other packages and inner modules have no pages here.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!lit_unlearn\.).*"), ("py:.*", r"lit_unlearn(\.\w+){2,}")]

write_all(HERE / "_generated")


def as_text(kind: str, said: str) -> str:
    """Return a formula as code, and other text without markup."""
    return f"``{said}``" if kind == "Formula" else re.sub(r"([|*`])", r"\\\1", said)


def format_card(*event: Any) -> None:
    """Turn the lines of a method's card in a docstring (`Formula: ...`) into fields, in place.

    Args:
        event: The arguments of Sphinx's event; the last one holds the lines.
    """
    lines = event[-1]
    text = re.sub(
        r"^(Formula|Source|Needs|Cost): (.*(?:\n +\S.*)*)",
        lambda card: f":{card[1]}: {as_text(card[1], ' '.join(card[2].split()))}",
        "\n".join(lines),
        flags=re.MULTILINE,
    )
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    """Register `format_card`, which must run before napoleon reads the docstring."""
    app.connect("autodoc-process-docstring", format_card, priority=100)
