"""Interference of a config's objectives: load, prepare, measure, write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.spellings import both_spellings
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.gradients.collect import layer_groups
from lit_unlearn.gradients.diagnostics import RESTING_NORM
from lit_unlearn.gradients.gramian import gramian
from lit_unlearn.gradients.perturbation import perturbed
from lit_unlearn.interference_study.batches import BatchStream, Rows
from lit_unlearn.interference_study.estimates import Estimate, differences, estimates, resting
from lit_unlearn.interference_study.interference_page import (
    preparation_file,
    study_files,
    write_study,
)
from lit_unlearn.interference_study.measure import (
    Amounts,
    Measurement,
    Studied,
    check_different,
    joint_gradient,
    measure,
)
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import evaluating
from lit_unlearn.models.loading import load_base, load_student, load_tokenizer
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.checks import check_names
from lit_unlearn.training.setup.prepare import prepare
from lit_unlearn.training.setup.teacher_gate import gate_error
from lit_unlearn.types import Representation
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.progress import Stage, shown

__all__ = ["Foresee", "Interference", "interference"]

Foresee = Callable[[Mapping[Representation, UnlearnDataModule], Amounts], object]
"""Callback that gets the rows of each representation, and the extent of the measurement."""


@dataclass(frozen=True)
class Interference:
    """The interference of objectives on a model."""

    estimates: list[Estimate]
    """All figures with their intervals."""
    remarks: list[str]
    """Remarks that a reader of the figures must know."""
    files: dict[str, Path]
    """Written files by their content."""


_PARTS = ("module", "data", "model", "foresee")
"""Parameters of `interference` that are not settings."""


def interference(
    module: UnlearnModule,
    data: UnlearnDataModule,
    *,
    model: str | None = None,
    output: Path = Path("runs/interference"),
    representations: tuple[Representation, ...] = ("raw", "unified"),
    batch_tokens: tuple[int, ...] = (64, 256),
    batches: int = 8,
    transfer_batches: int = 4,
    radius: float = 0.01,
    ahead: float = 0.0,
    device: str = "auto",
    foresee: Foresee | None = None,
) -> Interference:
    """Measure conflicts between objectives on a model, without training; write figures and a page.

    Args:
        module: Objectives, teacher and start model.
        data: The objectives' rows.
        model: Hub id or folder of a model to measure in place of the start model.
        output: Output folder.
        representations: Representations of the data to measure and compare.
        batch_tokens: Answer tokens of each objective in a batch; several numbers show how cosines
            depend on it.
        batches: Number of batches of each size, over which intervals are computed.
        transfer_batches: Number of batches, of the largest size, in which small steps are taken.
        radius: 2-norm of these steps.
        ahead: 2-norm of a step along the sum of all gradients (of `data.representation`, or the
            first measured one) before the measurement; 0 for none. On the start model itself, an
            objective that distils from it has no gradient.
        device: Name of a torch device (cpu, cuda:1); auto takes a GPU if there is one.
        foresee: Called before a model is loaded.

    Returns:
        The figures, remarks and files.

    Raises:
        InputError: Settings, rows or a model cannot be used.
    """
    settings = {k: v for k, v in locals().items() if k not in _PARTS}
    amounts = Amounts(sorted(batch_tokens), batches, transfer_batches, radius)
    check_number("ahead", ahead, 0)
    check_different("representations", representations)
    check_names(module.objectives.keys(), data.objectives.keys())
    module.prepare_data()
    output = local_path(output)
    read = [local_path(path) for path in (module.source.path, model) if path is not None]
    targets = study_files(output, representations)
    check_targets(output, targets, [path for path in read if path.exists()], "--output")
    forms = {kind: _form(data, kind) for kind in representations}
    if foresee is not None:
        foresee(forms, amounts)
    studied = _studied(module, device, model)
    remarks: list[str] = []
    rows: dict[str, Rows] = {
        kind: _rows(module, studied, form, output, remarks) for kind, form in forms.items()
    }
    start = rows.get(data.representation) or next(iter(rows.values()))
    with evaluating(studied.student), _moved(studied, start, amounts.sizes[-1], ahead):
        measured = _measured(studied, rows, amounts)
    names = list(studied.objectives)
    found: list[Estimate] = []
    for kind, own in measured.items():
        found += estimates(kind, own, names)
        remarks += _remarks(kind, own, names)
    if len(measured) == 2:
        found += differences(measured, names)
    facts = {
        "model": model or module.source.path,
        "settings": settings,
        "rows": {k: {name: len(own.tokens[name]) for name in names} for k, own in measured.items()},
        "remarks": remarks,
    }
    return Interference(found, remarks, write_study(output, found, measured, facts))


def _measured(
    studied: Studied, rows: Mapping[str, Rows], amounts: Amounts
) -> dict[str, Measurement]:
    work = amounts.work(len(studied.objectives)) * len(rows)
    found = {}
    with shown(Stage("measuring", work, "tokens")) as stage:
        for kind, own in rows.items():
            stage.part = kind
            found[kind] = measure(studied, own, amounts, stage)
    return found


def _form(data: UnlearnDataModule, kind: Representation) -> UnlearnDataModule:
    form = copy(data)
    form.representation = kind
    form.examples, form.evaluation = {}, {}
    form.setup("fit")
    return form


def _studied(module: UnlearnModule, device: str, model: str | None) -> Studied:
    """Load the models; the teacher belongs to the config's start model."""
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    source = module.source if model is None else replace(module.source, path=model, revision=None)
    student = load_student(source).to(chosen)
    teacher = module.teacher
    if teacher is not None:
        teacher.attach(student, module.source)
        for part in (teacher.saved_module(), teacher.unsaved_module()):
            if part is not None:
                part.to(chosen)
    named = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    parameters, groups = [parameter for _, parameter in named], layer_groups(named)
    return Studied(student, teacher, module.objectives, parameters, groups, torch.device(chosen))


def _rows(
    module: UnlearnModule,
    studied: Studied,
    form: UnlearnDataModule,
    folder: Path,
    remarks: list[str],
) -> Rows:
    """Prepare contexts and rows as for training; a failed gate becomes a remark."""
    kind, tokenizer = form.representation, load_tokenizer(module.source)

    def start() -> nn.Module:
        loaded: nn.Module = load_base(module.source)
        return loaded.to(studied.device)

    prepared = prepare(
        form.objectives,
        form.examples,
        studied.teacher,
        form.encoder(tokenizer),
        module.gate,
        preparation_file(folder, kind),
        fingerprint(module.source.path, module.source.revision),
        start,
        [name for name, objective in module.objectives.items() if objective.reads_teacher_bare],
    )
    if (error := gate_error(prepared.settled)) is not None:
        remarks.append(f"{kind}: {error}")
    form.set_rows(prepared.encoded, int(tokenizer.eos_token_id or 0), both_spellings(tokenizer))
    counts = {name: [row[0].predictions for row in rows] for name, rows in prepared.encoded.items()}
    return Rows(counts, form.batch, form.seed)


@contextmanager
def _moved(studied: Studied, rows: Rows, tokens: int, radius: float) -> Iterator[None]:
    """Move the weights a step along the sum of all gradients within the context."""
    if radius == 0:
        yield
        return
    gradient = joint_gradient(studied, BatchStream(rows, tokens).batch())
    length = float(gramian([gradient]).whole.sqrt())
    if length < RESTING_NORM:
        raise InputError(
            f"--ahead {radius}: expected gradients along which to step, found only rounding (norm "
            f"{length:.1e}) at an optimum; measure another model (--model)"
        )
    with perturbed(studied.parameters, gradient, -radius):
        yield


def _remarks(kind: str, found: Measurement, names: Sequence[str]) -> list[str]:
    remarks = []
    still = resting(found, names)
    if still:
        remarks.append(
            f"{kind}: the gradient of {', '.join(still)} was only rounding in some batch, so that "
            "it has no cosine. An objective that distils from the start model has no gradient on "
            "that model itself: measure a trained one (--model), or further on (--ahead 0.1)."
        )
    often = [f"{name} {visits:.1f} times" for name, visits in found.visits.items() if visits > 1]
    if often:
        remarks.append(
            f"{kind}: rows were used more than once ({', '.join(often)}), so that batches overlap "
            "and intervals are too narrow; give more rows, or measure less (--batches, "
            "--batch_tokens)."
        )
    return remarks
