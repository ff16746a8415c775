"""Configuration of the documentation site: `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from generated_pages import write_all  # noqa: E402

import lit_unlearn  # noqa: E402

project = "lit_unlearn"
author = "The lit_unlearn authors"
version = release = lit_unlearn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
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

write_all(HERE / "_generated")
