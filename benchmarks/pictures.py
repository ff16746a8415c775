"""Draw pictures of the documentation from a run's folder.

    python benchmarks/pictures.py runs/quickstart docs/images/quickstart

Writes PREFIX_cosines.png and PREFIX_heatmap.png.
"""

import sys
from pathlib import Path

from lit_unlearn.report import cosine_figure, heatmap_figure, read_gradients


def main(run: str, prefix: str) -> None:
    """Draw the two pictures of one run."""
    records = read_gradients(Path(run) / "gradients.jsonl")
    for name, figure in (
        ("cosines", cosine_figure(records)),
        ("heatmap", heatmap_figure(records)),
    ):
        figure.savefig(f"{prefix}_{name}.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
