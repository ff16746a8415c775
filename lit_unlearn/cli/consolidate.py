"""`lit-unlearn consolidate`: one checkpoint file out of a folder of slices."""

from __future__ import annotations

from lit_unlearn.cli.parsing import call
from lit_unlearn.distributed.consolidate import consolidate

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``consolidate``, then the folder and the file.

    Raises:
        InputError: The folder is no such checkpoint, or the file cannot be written.
    """
    call(consolidate, args, "folder", "file")
