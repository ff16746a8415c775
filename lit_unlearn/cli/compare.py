"""`lit-unlearn compare`: evaluations side by side, tested row by row against the first."""

from pathlib import Path

from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.evaluation.compare import compare
from lit_unlearn.report.evaluation_show import show_comparison, shown_files
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    parser = make_parser(
        "compare",
        description="Show evaluations side by side. Every figure that is a mean over rows is "
        "compared with the first evaluation by a paired test on the rows that both have: an exact "
        "McNemar test for scores of 0 and 1, otherwise a permutation test by sign flips. The "
        "p-values are corrected over the figures with Holm's method.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, help="Folders that `lit-unlearn evaluate` wrote."
    )
    usual, text = Path("runs/compare"), "Folder for compare.json, compare.html and pictures."
    parser.add_argument("--output", type=Path, default=usual, help=text)
    given = parse(parser, args[1:])
    folder = local_path(given.output)
    check_targets(folder, shown_files(folder, (), "compare.html"), [], "--output")
    show_comparison(compare(given.runs, folder), folder)
