"""Count the rows of TOFU, written by people, that the rules of `lit-unlearn rewrite` refuse.

    python benchmarks/rewriting_rules.py [--data FOLDER]

The first count is the number of TOFU's questions that the stand-alone rule refuses. The second
shows how strict the leak check is, with every sixth row of retain90 as anchor and forget10 to
forget: the share of anchors with a name that answers a row of forget10, and the share of the other
anchors that a row of forget10 refuses as its anchors, as the mean over these rows.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from script import run_script

from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.rewriting.leaks import Forgotten
from lit_unlearn.rewriting.rules import standalone_problem
from lit_unlearn.rewriting.source_texts import QA

EVERY = 6


def questions(config: str, data: Path | None) -> list[QA]:
    """Return the rows of one configuration of TOFU."""
    source = Source("locuslab/TOFU", config=config)
    return [
        QA(row.turns[-1].content, row.answer) for row in load_examples([source], data_root=data)
    ]


def refused_by_names(forget: Sequence[QA], anchors: Sequence[QA]) -> tuple[float, float]:
    """Return the share of anchors refused for every row, and the mean share that a row refuses."""
    forgotten = Forgotten(forget)
    nothing = QA("", "", ("\N{REPLACEMENT CHARACTER}",))  # a row whose answer is in no anchor
    rest = [anchor for anchor in anchors if not forgotten.problem(anchor, nothing)]
    own = [fmean(bool(forgotten.problem(anchor, row)) for anchor in rest) for row in forget]
    return 1 - len(rest) / len(anchors), fmean(own)


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder that replaces the hub")
    data = parser.parse_args().data
    everything = questions("full", data)
    refused = sum(bool(standalone_problem(qa.question)) for qa in everything)
    print(f"not stand-alone: {refused} of {len(everything)} questions of TOFU")
    forget, anchors = questions("forget10", data), questions("retain90", data)[::EVERY]
    by_any, by_own = refused_by_names(forget, anchors)
    print(f"leak check, {len(forget)} rows to forget, {len(anchors)} anchors:")
    print(f"  {by_any:.0%} hold a name that answers one of them;")
    print(f"  of the others each row refuses {by_own:.0%} more")


if __name__ == "__main__":
    run_script(main)
