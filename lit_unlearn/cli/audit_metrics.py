"""`lit-unlearn audit-metrics`: which figures of forgetting can be believed."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.evaluation.audit_metrics import AuditedMetric, Pools, audit_metrics
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.tables import print_paths, table, terminal

__all__ = ["main"]

_DESCRIPTION = """\
Says of every figure of forgetting whether it tells models that know from models that do not
(faithfulness), and whether it stays after relearning and quantisation (robustness). All arguments
are folders that `lit-unlearn evaluate` wrote, with the same suites and settings:

  lit-unlearn audit-metrics --knowing runs/know/*/evaluation --ignorant runs/retain/*/evaluation

For robustness, also give unlearned models, and the same ones changed, in the same order:

  --unlearned U1 U2 --quantised Q1 Q2 --relearned R1 R2 --retain T --retain_relearned T2
"""
_POOLS = {
    "knowing": "Models that were trained on what is to be forgotten.",
    "ignorant": "Models that were never trained on it.",
    "unlearned": "Models that were made to forget it.",
    "relearned": "The unlearned models after relearning, in the same order.",
    "quantised": "The unlearned models with weights of 4 bits, in the same order.",
}


def main(args: list[str]) -> None:
    """Run the command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = make_parser("audit-metrics", description=_DESCRIPTION, formatter_class=form)
    for name, text in _POOLS.items():
        parser.add_argument(f"--{name}", nargs="+", type=Path, default=[], help=text)
    parser.add_argument("--retain", type=Path, help="A model that never knew.")
    parser.add_argument(
        "--retain_relearned", type=Path, help="It, after the same training as the relearned ones."
    )
    usual = Path("runs/audit_metrics")
    parser.add_argument("--output", type=Path, default=usual, help="Folder for audit_metrics.json.")
    given = vars(parse(parser, args[1:]))
    folder = local_path(given.pop("output"))
    found = audit_metrics(Pools(**given), folder)
    console = terminal()
    console.print(_table(found))
    sides = len(given["knowing"]), len(given["ignorant"])
    chance = 1 / math.comb(sum(sides), sides[0])
    console.print(
        f"{sides[0]} knowing and {sides[1]} ignorant models: a figure that tells nothing has a "
        f"faithfulness of 1 with probability {chance:.2g}."
    )
    print_paths(console, {"figures": folder / "audit_metrics.json"})


def _table(found: Sequence[AuditedMetric]) -> Table:
    """Return the figures with their faithfulness and robustness, for the terminal."""
    columns = ["suite", "figure", "know", "never", "faithful", "relearn", "4 bit", "robust", "all"]
    rows = [
        [
            each.suite,
            each.figure,
            _cell(each.knowing),
            _cell(each.ignorant),
            f"{_cell(each.faithfulness)} [{_cell(each.low)}, {_cell(each.high)}]",
            *map(_cell, (each.relearning, each.quantisation, each.robustness, each.overall)),
            "" if each.published is None else " / ".join(map(_cell, each.published)),
        ]
        for each in found
    ]
    caption = (
        "faithful: AUC of knowing against ignorant models, with its 95 % interval. relearn, 4 bit: "
        "0 to 1, 1 for a figure that behaves as it should. robust, all: harmonic means. published: "
        "faithful / relearn / 4 bit of the same score on other models (arXiv 2605.24614)."
    )
    return table("Audit of metrics", [*columns, "published"], rows, left=2, caption=caption)


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
