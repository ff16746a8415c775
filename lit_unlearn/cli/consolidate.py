"""`lit-unlearn consolidate`: one checkpoint file out of a folder of slices."""

from __future__ import annotations

from lit_unlearn.cli.parsing import call
from lit_unlearn.distributed.consolidate import consolidate

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    call(consolidate, args, "folder", "file")
