"""Train a method without one of its parts at a time; validate each, and write a table.

    lit-unlearn fit --config configs/tofu_smollm2_target.yaml     # once: trains the target
    python benchmarks/ablations.py --rate 1.5e-3 [--data FOLDER] [--jobs N]

Rows, steps and evaluation are those of benchmarks/compare_methods.py, whose choice of the learning
rate all runs share. One seed, and only the rows of configs/evaluate_tofu_validation.yaml. Where an
objective is left out, the others of its kind get its rows, so that a step has eight rows as before.
The same command resumes; the output folder gets ablations.md.

Cost: six trainings of 40 steps, seven validations.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compare_methods import VALIDATION, Comparison, options
from methods_report import Method, markdown
from script import run_script

from lit_unlearn.utils.ownership import write_text


def _rows(**rows: int) -> dict[str, Any]:
    return {name: {"rows": count} for name, count in rows.items()}


def _without(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the change that removes an objective."""
    return {"model": {"objectives": {name: None}}, "data": {"objectives": {name: None, **data}}}


PULL: dict[str, Any] = {"init_args": {"push_weight": 0.0}}
ABLATIONS: Mapping[str, dict[str, Any]] = {
    "whole": {},
    "without_push": {
        "model": {
            "objectives": {
                **dict.fromkeys(("forget", "neighbor", "retain"), PULL),
                **{name: {"init_args": {"objective": PULL}} for name in ("adversarial", "path")},
            }
        }
    },
    "without_path": _without("path", _rows(forget=2, adversarial=2)),
    "without_context": {
        "data": {
            "objectives": {name: {"context": None} for name in ("forget", "adversarial", "path")}
        }
    },
    "without_anchors": _without("neighbor", _rows(retain=4)),
    "without_prefills": _without(
        "adversarial", {**_rows(forget=2), "neighbor": {"prefills": None}}
    ),
}
"""Name -> change that is laid over the method. The anchors are the neighbours' rows."""


def main(args: Sequence[str] | None = None) -> None:
    """Run what is not finished, and write the table."""
    parser = options(__doc__.splitlines()[0], Path("runs/ablations"))
    parser.add_argument("--method", default="bidirectional_interpolated")
    parser.add_argument("--rate", required=True, help="learning rate that the comparison chose")
    given = parser.parse_args(args)
    comparison = Comparison(given)
    comparison.evaluate_start(VALIDATION)
    found = []
    for name, change in ABLATIONS.items():
        file = given.output / f"{name}.yaml"
        write_text(file, json.dumps(change))
        method = Method(name, given.rate)
        runs = comparison.runs(given.method, [given.rate], [given.seed], file)
        for (_, seed), figures in comparison.measured(method, runs, VALIDATION).items():
            method.runs[str(seed)] = figures
        found.append(method)
    table = markdown(found)
    write_text(given.output / "ablations.md", table)
    print(table)


if __name__ == "__main__":
    run_script(main)
