"""Rows, battery and recipes of benchmarks/request_sequence.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lit_unlearn.cli.config import read_configs
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.evaluation.probes import Outcomes, Probes, Reference, SuiteResult
from lit_unlearn.evaluation.suites.answers import Answers
from lit_unlearn.evaluation.suites.common import subject_outcomes
from lit_unlearn.metrics.functional.likelihood import extraction_strength
from lit_unlearn.requests.battery import qa_lines
from lit_unlearn.rewriting.source_texts import QA, read_texts

REQUESTS, AUTHORS, ROWS = 5, 4, 10
"""Number of requests, authors of each, and rows of each author that the target was taught."""
ASKED = {False: (8, 2), True: (6, 4)}
"""Places of two of each author's rows that are asked; the first one is never trained, to forget or
to keep. For the choice of the settings (True) they are others."""
NEAR = 3
"""Trained rows of each author that was not requested yet, as neighbours."""
KEPT, FACTS, GENERAL = "kept authors", "real authors and facts", "general"
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TOKENS = 32
"""Tokens of a reply."""


@dataclass(frozen=True)
class Rows:
    """All rows of the experiment."""

    trained: Sequence[Sequence[QA]]
    """Rows to forget of each request, author by author."""
    asked: dict[str, Sequence[QA]]
    """Held-out rows by group: `request 1` to `request 5`, and what must stay."""
    kept: Sequence[QA]
    """Rows for training of the authors that nobody asks to forget."""
    general: Sequence[QA]


def read_all(validation: bool = False) -> Rows:
    """Read the rows from TOFU and the package; `validation` takes those for choosing settings."""
    places, first = ASKED[validation], 4 * validation
    taught = _tofu("retain_perturbed", every=2)
    authors = [taught[i : i + ROWS] for i in range(0, len(taught), ROWS)]
    requests = [authors[i : i + AUTHORS] for i in range(0, len(authors), AUTHORS)]
    asked: dict[str, Sequence[QA]] = {
        f"request {number}": [author[place] for author in own for place in places]
        for number, own in enumerate(requests, start=1)
    }
    kept, real, facts = _tofu("forget01"), _tofu("real_authors"), _tofu("world_facts")
    general = _read(Source("builtin:general", split="eval"))
    known = [*real[first::14], *facts[first::14]]
    asked |= {KEPT: kept[1 + first // 2 :: 4], FACTS: known, GENERAL: general[2 * first :][:8]}
    builtin = _read(Source("builtin:instructions", split="train"))
    return Rows(
        [
            [row for author in own for place, row in enumerate(author) if place != places[0]]
            for own in requests
        ],
        asked,
        kept[::2],
        [*real[7::10], *facts[7::12], *builtin[:12]],
    )


def neighbours(rows: Rows, requested: Sequence[int]) -> list[QA]:
    """Return the neighbours for training: no author of a request in `requested` is among them."""
    per_author = ROWS - 1
    return [*rows.kept] + [
        row
        for number, own in enumerate(rows.trained, start=1)
        if number not in requested
        for place, row in enumerate(own)
        if place % per_author < NEAR
    ]


def recipe(
    name: str,
    steps: Mapping[str, int],
    rates: Mapping[str, float],
    changes: Sequence[Path],
    target: str,
) -> dict[str, Any]:
    """Return the values of a recipe, scaled down to few steps of few rows.

    Args:
        name: `default`; `interpolated`, which keeps a share of the update; `first_teacher`, which
            also has the target as its teacher; or `npo`.
        steps: Number of steps of `default` and `npo`.
        rates: Learning rate of `default` and `npo`.
        changes: Configs that are laid over the recipe.
        target: The model before the first request.
    """
    npo = name == "npo"
    files = ["tofu/base.yaml", "tofu/npo.yaml"] if npo else ["erase.yaml"]
    found = read_configs([*(CONFIGS / file for file in files), *changes]).values
    callbacks = [{"class_path": "GradientMonitor"}, {"class_path": "HuggingFaceExport"}]
    if name in ("interpolated", "first_teacher"):
        share = {"class_path": "WeightInterpolation", "init_args": {"rows": 12}}
        callbacks.insert(1, share)
    found["trainer"] = found["trainer"] | {
        "max_steps": steps["npo" if npo else "default"],
        "callbacks": callbacks,
    }
    model, objectives = found["model"], found["data"]["objectives"]
    found["model"] = model | {"gate": {"action": "off"}, "diagnostics_every": 4, "warmup_steps": 4}
    for objective, count in COUNTS["npo" if npo else "default"].items():
        objectives[objective] = objectives[objective] | {"rows": count, "evaluation_rows": 0}
    if npo:
        init = {"lr": rates["npo"], "weight_decay": 0.01}
        found["model"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": init}
        found["data"] = found["data"] | {"template": None, "micro_batch_rows": None}
    else:
        for spec in objectives.values():
            if spec["expect"] == "decline":  # one context, as the gate that tries several is off
                spec["context"] = {"class_path": "Echo", "init_args": {"declined": 3}}
        if name == "first_teacher":
            teacher = model["teacher"]
            path = {"init_args": teacher["init_args"] | {"path": target}}
            found["model"]["teacher"] = teacher | path
        init = {"lr": rates["default"], "weight_decay": 0.0}
        found["model"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": init}
        losses = found["model"]["objectives"]
        found["model"]["objectives"] = {
            name: loss | {"init_args": loss["init_args"] | {"weight": WEIGHTS[name]}}
            for name, loss in losses.items()
        }
        objectives["neighbor"] = objectives["neighbor"] | {"prefills": None}
        openers = {"openers": "builtin:train", "candidates": 1}
        objectives["adversarial"] = objectives["adversarial"] | {"prefills": openers}
    return found


COUNTS = {
    "default": {"forget": 6, "adversarial": 1, "path": 2, "neighbor": 5, "retain": 2},
    "npo": {"forget": 4, "retain": 8},
}
"""Rows of each objective in a step."""


WEIGHTS = {"forget": 2.0, "adversarial": 1.3, "path": 0.5, "neighbor": 5.0, "retain": 2.0}
"""Weights of the scaled recipe. With those of erase.yaml, made for five times as many steps, hardly
anything is forgotten in this one."""


class Asked(Answers):
    """The suite `answers`, with the extraction strength of each answer."""

    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        found = super().score(probes, outcomes, reference)
        pairs = zip(found.rows, subject_outcomes(probes, outcomes), strict=True)
        rows = [
            replace(
                row,
                scores={
                    **row.scores,
                    "extraction_strength": extraction_strength(
                        outcome.forced["answer"].hits, end_of_turn=False
                    ),
                },
            )
            for row, (_, outcome) in pairs
        ]
        return SuiteResult(rows, found.figures)


def battery(rows: Rows, folder: Path) -> Asked:
    """Return the suite that asks all held-out rows, which are written to a folder first."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {}
    for name, own in rows.asked.items():
        file = folder / f"{name.replace(' ', '_')}.jsonl"
        file.write_text(qa_lines(own), "utf-8")
        groups[name] = load_examples([Source(str(file), domain="question_answer")])
    return Asked(groups, {}, TOKENS)


def _tofu(config: str, every: int = 1) -> list[QA]:
    return _read(Source("locuslab/TOFU", config, every=every))


def _read(source: Source) -> list[QA]:
    texts = read_texts([source], None, "error", 150, 1)
    return [row for text in texts for row in text.ready]
