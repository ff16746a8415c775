"""Packages whose names are imported on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lit_unlearn import teachers


def test_every_exported_name_is_there() -> None:
    for name in teachers.__all__:
        assert getattr(teachers, name).__name__ == name
    with pytest.raises(AttributeError, match=r"'lit_unlearn.teachers' has no attribute 'Oracle'"):
        teachers.Oracle  # noqa: B018 - the look-up is what is tested


def test_importing_the_package_imports_no_library() -> None:
    code = "import sys, lit_unlearn.teachers; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
