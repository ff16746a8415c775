"""The wheel is whole, and a config is found by its bare name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lit_unlearn.cli.config import read_config
from lit_unlearn.errors import InputError
from lit_unlearn.utils.config_files import SHIPPED, find_config, shipped_names
from tests.conftest import PROJECT


@pytest.mark.slow
def test_the_wheel_has_all_files(tmp_path: Path) -> None:
    """Configs, templates, built-in rows and the stub; built from a copy, without a network."""
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("lit_unlearn", "configs"):
        shutil.copytree(PROJECT / name, tmp_path / "source" / name, symlinks=True, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, tmp_path / "source")
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(tmp_path / "source")]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (PROJECT / "lit_unlearn").rglob("*") if path.is_file()]
    wanted = {path.relative_to(PROJECT).as_posix() for path in files if path.suffix != ".pyc"}
    wanted |= {f"lit_unlearn/configs/{name}" for name in shipped_names()}
    assert {"lit_unlearn/__init__.pyi", "lit_unlearn/configs/tofu/npo.yaml"} < wanted
    assert wanted <= held


def test_a_bare_name_finds_a_shipped_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any folder; a local file wins."""
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart.yaml", "configs/quickstart.yaml", "tofu/npo.yaml"):
        inside = SHIPPED / name.removeprefix("configs/")
        assert find_config(Path(name)) == inside
        assert read_config(Path(name)).values == read_config(inside).values
    Path("quickstart.yaml").write_text("model: {mine: 1}", "utf-8")
    assert read_config(Path("quickstart.yaml")).values == {"model": {"mine": 1}}
    assert find_config(Path("../configs/smoke.yaml")) == Path("../configs/smoke.yaml")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smoek.yaml", "did you mean smoke.yaml"),
        ("configs/smoek.yaml", "did you mean smoke.yaml"),
        ("tofu/npoo.yaml", "tofu/npo.yaml"),
    ],
)
def test_an_unknown_name(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=hint):
        read_config(Path(name))
