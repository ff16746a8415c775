"""`lit-unlearn consolidate`: join a checkpoint in slices to one file."""

from lit_unlearn.cli.parsing import call
from lit_unlearn.distributed.consolidate import consolidate

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    call(consolidate, args, "folder", "file")
