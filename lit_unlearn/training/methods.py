"""Cards of all objectives, weightings and combinations, and the tables of docs/methods.md.

Cards are read from the docstrings of the classes, so that they agree with the command line's help.
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from lit_unlearn import objectives
from lit_unlearn.gradients import combination, weighting
from lit_unlearn.objectives import Objective

__all__ = ["RECIPES", "Card", "Recipe"]
__all__ += ["card", "classes", "combination_cards", "fact", "loss_weighting_cards", "markdown"]
__all__ += ["objective_cards", "weighting_cards"]

_COMMON = ("weight", "schedule", "positions", "objective")
_ARXIV = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Card:
    """Facts about one class; ``-`` where its docstring does not give one."""

    name: str
    summary: str
    formula: str
    source: str
    needs: str
    """Any of `answers`, `teacher`, `pairs` (two answers per row), `spans`, `hidden states`; or
    `nothing`."""
    cost: str
    """Sequences that student and teacher read for each row of data; a pair has two."""
    defaults: str
    documentation: str
    """Whole docstring."""


@dataclass(frozen=True)
class Recipe:
    """A published method as objectives side by side."""

    name: str
    forget: str
    retain: str
    note: str
    config: str = ""
    """File in configs/tofu."""


_RECIPES = """
GradDiff | GradientAscent | CrossEntropy | weights 1 and 1 | graddiff.yaml
KL minimisation | GradientAscent | ForwardKL | the teacher without context | graddiff_kl.yaml
IdkNLL | CrossEntropy | CrossEntropy | forget rows with `answer: refusal` | idknll.yaml
IdkDPO | DPO | CrossEntropy | `answer: refusal`, `rejected: gold` | dpo.yaml
AltPO | DPO | CrossEntropy | `answer: alternate`, `rejected: gold` | altpo.yaml
IDK+AP | CrossEntropy | AnswerPreservation | forget `answer: refusal`; retain \
`rejected: refusal` | idk_ap.yaml
ME+GD | MaximumEntropy | CrossEntropy | weights 0.1 and 1 | maxent.yaml
NPO | NPO | CrossEntropy | weights 1 and 1; the teacher without context | npo.yaml
SimNPO | SimNPO | CrossEntropy | weights 0.125 and 1 | simnpo.yaml
SatImp | SatImp | CrossEntropy | weights 0.1 and 1 | satimp.yaml
FLAT | FLAT | - | `answer: refusal`, `rejected: gold`; no retain data | flat.yaml
JensUn | JensUn | GeneralizedJSD | weights 1 and 1; `answer: refusal` ("No idea"), \
`rejected: gold` | jensun.yaml
MASC | MASC | - | no retain data, LoRA; EarlyStopping on `val/margin_violation/forget` | masc.yaml
PALU | PALU | CrossEntropy | weights 1 and 1; `mark_spans: true`; the teacher without context \
| palu.yaml
RepSelect | GradientAscent | - | `combination` RepSelect; SGD on the MLP matrices, no retain data \
| repselect.yaml
DualOptim+ | NPO | CrossEntropy | `combination` DualOptimPlus over SGD, `clip_norm: null` \
| dual_optim.yaml
ASU | ForwardKL | CrossEntropy | teacher SmoothedTeacher; weights 0.1 and 1 | asu.yaml
UNDIAL | UNDIAL | - | no retain data, LoRA | undial.yaml
RMU | RMU | HiddenRetain | weights 1 and 1 (on WMDP 1 and 1200), the same depth | rmu.yaml
Circuit breakers | RepresentationRerouting | HiddenRetain | `LinearDecay` and `LinearWarmup` \
over 300 steps, weights 10, `distance: norm`, LoRA | rr.yaml
PDU | LogitFlattening | CrossEntropy | `loss_weighting` DualAscent | pdu.yaml
NPO+SAM | SharpnessAware | CrossEntropy | around NPO, `radius: 0.01`; the teacher without \
context | sam_npo.yaml
WHP | ForwardKL | - | teacher ContrastTeacher; its `path` is a model that was trained further \
on the forget rows | whp.yaml
UNDO | - | ForwardKL | `student.path` is the model of an unlearning run; `student.noise`; \
general text | undo.yaml
Task vector | - | - | no training: `lit-unlearn task-vector`
BS-S | GradientAscent | CrossEntropy | weights 0.5 and 0.5 for gold answers and for samples of \
the student (`answer: student`) | bss.yaml
OPCD | ReverseKL | CrossEntropy | `answer: student`: samples of the student, and the teacher under \
a context | opcd.yaml
DUET | BidirectionalDistillation | BidirectionalDistillation | `push_top_k: 0`, `positions: 1`, \
`space: logit`, `entries: uniform`, `delta: 1.0`, one context for all rows | duet.yaml
"""
RECIPES = tuple(Recipe(*line.split(" | ")) for line in _RECIPES.strip().split("\n"))
"""Published methods that have no class of their own."""


def fact(documentation: str, label: str) -> str:
    """Return the text after ``label:`` in a docstring, without the full stop; ``-`` if none.

    Continuation lines are indented.
    """
    found = re.search(rf"^{label}: (.+(?:\n[ ]+\S.*)*)", documentation, re.MULTILINE)
    return "-" if found is None else " ".join(found.group(1).split()).rstrip(".")


def card(cls: type) -> Card:
    """Return the card of an objective, weighting or combination."""
    text = inspect.getdoc(cls) or ""
    source = fact(text, "Source")
    if source == "-":
        source = ", ".join(f"arXiv {number}" for number in dict.fromkeys(_ARXIV.findall(text)))
    return Card(
        name=cls.__name__,
        summary=" ".join(text.split("\n\n")[0].split()),
        formula=fact(text, "Formula"),
        source=source or "-",
        needs=fact(text, "Needs"),
        cost=fact(text, "Cost"),
        defaults=_defaults(cls),
        documentation=text,
    )


def _defaults(cls: type) -> str:
    """Return the parameters that not every objective has, with their defaults."""
    given = inspect.signature(cls).parameters.values()
    named = [p for p in given if p.name not in _COMMON and p.default is not p.empty]
    return ", ".join(f"{p.name} {p.default}" for p in named) or "-"


def classes(module: ModuleType, base: type = object) -> list[type]:
    """Return the concrete subclasses of ``base`` in a package's ``__all__``, file by file."""
    offered = [vars(module)[name] for name in module.__all__]
    found = [
        cls
        for cls in offered
        if isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
    ]
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


def objective_cards() -> list[Card]:
    """Return one card for every objective."""
    return [card(cls) for cls in classes(objectives, Objective)]


def weighting_cards() -> list[Card]:
    """Return one card for every weighting of gradients."""
    return [card(cls) for cls in classes(weighting, weighting.Weighting)]


def loss_weighting_cards() -> list[Card]:
    """Return one card for every weighting of losses."""
    return [card(cls) for cls in classes(weighting, weighting.LossWeighting)]


def combination_cards() -> list[Card]:
    """Return one card for every combination."""
    return [card(cls) for cls in classes(combination)]


_INTRODUCTION = """# Methods

Written by `lit-unlearn methods --markdown > docs/methods.md` from the docstrings.

p is the student's probability of an answer token, z its logits, y the token; sg[.] carries no
gradient, and `ref` marks the teacher's values. Every objective works with any rows, teacher,
weight, schedule and weighting. Where the rows have no context, the teacher is a reference model.
*Needs*: `answers` in the rows, a `teacher`, `pairs` of a preferred and a rejected answer (`answer`
and `rejected` in the objective's data), marked `spans` (`mark_spans`), or `hidden states`. *Reads
per row*: forward passes of one sequence each."""


def markdown() -> str:
    """Return the text of docs/methods.md."""
    headings = ("objective", "loss", "needs", "reads per row", "defaults", "source")
    losses = [
        (c.name, f"`{c.formula}`", c.needs, c.cost, c.defaults, c.source) for c in objective_cards()
    ]
    parts = [_INTRODUCTION, _table("Objectives", headings, losses)]
    parts_of = ("method", "forget", "retain", "settings", "configs/tofu/")
    recipes = [(r.name, r.forget, r.retain, r.note, r.config or "-") for r in RECIPES]
    parts.append(_table("Published methods as objectives side by side", parts_of, recipes))
    for title, first, cards in (
        ("Weightings", "weighting", weighting_cards()),
        ("Weightings of losses", "weighting", loss_weighting_cards()),
        ("Combinations, in place of a weighting", "combination", combination_cards()),
    ):
        rows = [(c.name, c.summary, c.defaults, c.source) for c in cards]
        parts.append(_table(title, (first, "what it does", "defaults", "source"), rows))
    return "\n\n".join(parts) + "\n"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [headings, ["---"] * len(headings), *rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([f"## {title}", "", *lines])
