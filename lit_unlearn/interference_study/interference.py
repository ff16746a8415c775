"""What `lit-unlearn interference` does: load, prepare, measure, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.gradients.collect import layer_groups
from lit_unlearn.gradients.diagnostics import RESTING_NORM
from lit_unlearn.gradients.gramian import gramian
from lit_unlearn.gradients.perturbation import perturbed
from lit_unlearn.interference_study import interference_page as page
from lit_unlearn.interference_study.batches import Rows, Stream
from lit_unlearn.interference_study.figures import Line, difference_lines, lines_of, resting
from lit_unlearn.interference_study.measure import (
    Amounts,
    Measured,
    Subject,
    joint_gradient,
    measure,
)
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.forward import evaluating
from lit_unlearn.models.loading import load_base, load_student, load_tokenizer
from lit_unlearn.report.drawing import save_pictures
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.checks import check_names
from lit_unlearn.training.setup.prepare import prepare
from lit_unlearn.training.setup.teacher_gate import gate_error
from lit_unlearn.types import Representation
from lit_unlearn.utils.progress import Stage, shown
from lit_unlearn.utils.tables import print_paths, terminal


@dataclass
class Options:
    """Measure how the objectives of a config fight on a model, without training it.

    Args:
        output: Folder of everything that is written.
        representations: Which forms of the data are measured, and compared.
        batch_tokens: Answer tokens of each objective in a batch; several show how cosines depend on
            it.
        batches: Batches of each size; intervals are over these.
        transfer_batches: In how many of the largest ones small steps are taken.
        radius: 2-norm of these steps.
        ahead: 2-norm of a step along the sum of all gradients (of `data.representation`, or the
            first one that is measured) before anything is measured; 0 for none. On the start model
            itself an objective that distils from it has no gradient.
        device: As torch names it (cpu, cuda:1); auto takes a GPU where there is one.
    """

    output: Path = Path("runs/interference")
    representations: tuple[Representation, ...] = ("raw", "unified")
    batch_tokens: tuple[int, ...] = (64, 256)
    batches: int = 8
    transfer_batches: int = 4
    radius: float = 0.01
    ahead: float = 0.0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_number("batches", self.batches, 2)
        check_number("transfer_batches", self.transfer_batches, 0)
        check_number("radius", self.radius, 0, above=True)
        check_number("ahead", self.ahead, 0)
        for size in self.batch_tokens:
            check_number("batch_tokens", size, 1)
        for name, values in (
            ("representations", self.representations),
            ("batch_tokens", self.batch_tokens),
        ):
            if not values or len(set(values)) < len(values):
                raise InputError(f"--{name}: expected different values, found {list(values)}")


def interference(
    module: UnlearnModule, data: UnlearnDataModule, options: Options, model: str | None = None
) -> list[Line]:
    """Measure, and write figures, pictures and a page.

    Args:
        module: Holds the objectives, the teacher and the start model.
        data: The objectives' rows.
        options: What is measured.
        model: Measured in place of the start model.

    Returns:
        All figures.

    Raises:
        InputError: Rows or a model that cannot be used.
    """
    check_names(module.objectives.keys(), data.objectives.keys())
    module.prepare_data()
    forms = {kind: _form(data, kind) for kind in options.representations}
    subject = _subject(module, options.device, model)
    sizes = sorted(options.batch_tokens)
    amounts = Amounts(sizes, options.batches, options.transfer_batches, options.radius)
    remarks: list[str] = []
    rows = {
        kind: _rows(module, subject, form, options.output, remarks) for kind, form in forms.items()
    }
    work = amounts.work(len(subject.objectives)) * len(rows)
    measured: dict[str, Measured] = {}
    start = rows.get(data.representation) or next(iter(rows.values()))
    moved = _moved(subject, start, sizes[-1], options.ahead)
    with evaluating(subject.student), moved, shown(Stage("measuring", work, "tokens")) as stage:
        for kind, own in rows.items():
            stage.part = kind
            measured[kind] = measure(subject, own, amounts, stage)
    names = list(subject.objectives)
    lines = {kind: lines_of(kind, found, names) for kind, found in measured.items()}
    for form, found in measured.items():
        remarks += _remarks(form, found, names)
    every = [line for own in lines.values() for line in own]
    if len(lines) == 2:
        before, after = lines.values()
        every += difference_lines(before, after, measured)
    _write(every, names, measured, remarks, options, model or module.source.path)
    return every


def _form(data: UnlearnDataModule, kind: Representation) -> UnlearnDataModule:
    """A data module like the given one with rows in one representation."""
    form = copy(data)
    form.representation = kind
    form.examples = {}
    form.setup("fit")
    return form


def _subject(module: UnlearnModule, device: str, model: str | None) -> Subject:
    """Load the models; the teacher is that of the config's start model."""
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
    parameters = [parameter for _, parameter in named]
    return Subject(
        student, teacher, module.objectives, parameters, layer_groups(named), torch.device(chosen)
    )


def _rows(
    module: UnlearnModule,
    subject: Subject,
    form: UnlearnDataModule,
    folder: Path,
    remarks: list[str],
) -> Rows:
    """Contexts settled and rows encoded, as before a training; a failed gate becomes a remark."""
    kind, tokenizer = form.representation, load_tokenizer(module.source)

    def start() -> nn.Module:
        loaded: nn.Module = load_base(module.source)
        return loaded.to(subject.device)

    prepared = prepare(
        form.objectives,
        form.examples,
        subject.teacher,
        Encoder(tokenizer, form.max_length, form.on_problem),
        module.gate,
        folder / f"preparation_{kind}.json",
        fingerprint(module.source.path, module.source.revision),
        start,
    )
    error = gate_error(prepared.settled)
    if error is not None:
        remarks.append(f"{kind}: {error}")
    form.set_rows(prepared.encoded, pad_id=int(tokenizer.eos_token_id or 0))
    counts = {name: [row[0].predictions for row in rows] for name, rows in prepared.encoded.items()}
    return Rows(counts, form.batch, form.seed)


@contextmanager
def _moved(subject: Subject, rows: Rows, tokens: int, radius: float) -> Iterator[None]:
    """Inside, the weights stand a step further along the sum of all gradients."""
    if radius == 0:
        yield
        return
    gradient = joint_gradient(subject, Stream(rows, tokens).batch())
    length = float(gramian([gradient]).whole.sqrt())
    if length < RESTING_NORM:
        raise InputError(
            f"--ahead {radius}: expected a direction to step in, found gradients that are rounding "
            f"(norm {length:.1e}); the model is where its objectives want it: measure another one "
            "(--model)"
        )
    with perturbed(subject.parameters, gradient, -radius):
        yield


def _remarks(kind: str, found: Measured, names: Sequence[str]) -> list[str]:
    """What a reader has to know about one representation."""
    remarks = []
    still = resting(found, names)
    if still:
        remarks.append(
            f"{kind}: {', '.join(still)} had no gradient but rounding in some batch, so that their "
            "cosines are not given. An objective that distils from the start model has none on "
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


def _write(
    lines: Sequence[Line],
    names: Sequence[str],
    measured: Mapping[str, Measured],
    remarks: Sequence[str],
    options: Options,
    model: str,
) -> None:
    """All files, and the summary on the terminal."""
    folder = options.output
    rows = {
        kind: {name: len(found.tokens[name]) for name in names} for kind, found in measured.items()
    }
    facts = {"model": model, "settings": asdict(options), "rows": rows, "remarks": list(remarks)}
    drawn = page.gallery(lines, names, measured)
    page.write_figures(folder, lines, facts)
    for figures in drawn.values():
        save_pictures(folder / page.PICTURES, figures)
    title = f"Interference of objectives on {model}"
    page.write_page(folder / page.PAGE, title, lines, drawn, remarks, facts)
    console = terminal()
    console.print(page.summary_table(lines))
    for remark in remarks:
        console.print(remark)
    print_paths(
        console,
        {
            "figures": folder / page.FIGURES,
            "table": folder / page.TABLE,
            "pictures": folder / page.PICTURES,
            "page": folder / page.PAGE,
        },
    )
