"""Config files by name: a local file, or else one of the package."""

from pathlib import Path

__all__ = ["SHIPPED", "find_config", "shipped_names"]

SHIPPED = Path(__file__).resolve().parents[1] / "configs"
"""Folder of the package's configs; in a checkout a link to ``configs``."""


def find_config(file: Path) -> Path:
    """Return a local file, or the package's config of that name if there is no local file.

    Names are such as ``quickstart.yaml``, ``tofu/npo.yaml`` or ``configs/quickstart.yaml``.
    """
    parts = file.parts[1:] if file.parts[:1] == ("configs",) else file.parts
    shipped = SHIPPED.joinpath(*parts)
    usable = not file.is_absolute() and ".." not in parts and shipped.is_file()
    return shipped if usable and not file.exists() else file


def shipped_names() -> list[str]:
    """Return the names under which `find_config` finds the package's configs."""
    return sorted(file.relative_to(SHIPPED).as_posix() for file in SHIPPED.glob("**/*.yaml"))
