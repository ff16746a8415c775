"""Count the matrices of logits that each loss holds at the peak of its forward and backward pass.

    python benchmarks/logit_memory.py [--tokens 256] [--vocabulary 65536] [--out FILE.json]

The reader returns random logits, a new matrix each time, as an output head does; those of the
teacher count too. Each loss runs in a separate process. The unit is N x V float32 numbers; memory
is the process's peak resident set.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from cost import peak_gib, report, reset_peak
from script import run_script
from torch import Tensor

from lit_unlearn import objectives
from lit_unlearn.data.collation import collate
from lit_unlearn.objectives import BidirectionalDistillation, Objective
from lit_unlearn.types import EncodedExample, Tokens

ROWS = 4
LOSSES: dict[str, Callable[[], Objective]] = {
    "cross-entropy": objectives.CrossEntropy,
    "gradient ascent": objectives.GradientAscent,
    "SimNPO": objectives.SimNPO,
    "NPO": objectives.NPO,
    "bidirectional": BidirectionalDistillation,
    "bidirectional, literal": lambda: BidirectionalDistillation(
        space="logit", entries="uniform", push="match"
    ),
    "forward KL": objectives.ForwardKL,
    "reverse KL": objectives.ReverseKL,
    "JSD": objectives.GeneralizedJSD,
}


class Given:
    """Reader of logits that a function returns."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self.make = make

    def logits(self, tokens: Tokens) -> Tensor:
        """Return the logits of the function, for any tokens."""
        return self.make()


def matrices(name: str, tokens: int, vocabulary: int) -> float:
    """Return the number of matrices at the peak, in this process."""
    torch.manual_seed(0)
    own = tokens // ROWS
    ids = tuple(range(3, 3 + own + 16))
    rows = [[EncodedExample(str(i), ids, 16, ids, 16, own)] for i in range(ROWS)]
    batch = collate(rows, pad_id=0)
    objective = LOSSES[name]()
    raw, weight = torch.randn(tokens, vocabulary), torch.ones(1, requires_grad=True)
    reset_peak()
    before = peak_gib()
    teacher = Given(lambda: raw + 1.0) if objective.needs_teacher else None
    terms = objective(batch, Given(lambda: raw * weight), teacher)  # type: ignore[arg-type]
    terms.values.sum().backward()
    return (peak_gib() - before) * 2**30 / (4 * tokens * vocabulary)


def main() -> None:
    """Measure all losses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=256, help="answer tokens N, of four rows")
    parser.add_argument("--vocabulary", type=int, default=65536)
    parser.add_argument("--out", type=Path, default=Path("runs/logit_memory/result.json"))
    args = parser.parse_args()
    found = []
    for name in LOSSES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            value = pool.apply(matrices, (name, args.tokens, args.vocabulary))
        found.append({"loss": name, "matrices": value})
    title = f"N x V matrices at the peak, N = {args.tokens}, V = {args.vocabulary}"
    report(title, found, {"losses": found}, args.out)


if __name__ == "__main__":
    run_script(main)
