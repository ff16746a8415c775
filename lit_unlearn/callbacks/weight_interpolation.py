"""WeightInterpolation: a share of the update that forgets, and still answers what should stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lit_unlearn.callbacks.end_order import WEIGHTS, order_end
from lit_unlearn.callbacks.known_answers import Known, KnownAnswers, known_of
from lit_unlearn.callbacks.suite_evaluation import student_subject
from lit_unlearn.data.duplicates import question_key
from lit_unlearn.data.prefills import read_openers
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import Subject
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.answers import Answers
from lit_unlearn.types import Example
from lit_unlearn.utils.ownership import write_text
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.spread import evenly_spread
from lit_unlearn.utils.tables import terminal

__all__ = ["INTERPOLATION_FILE", "WeightInterpolation", "first", "interpolate"]

INTERPOLATION_FILE = "interpolation.json"
"""File with the chosen share, and the figures at every share that was tried."""
_LITTLE = 0.05
"""Recall that always suffices: a refusal shares small words with the answer, and a few questions
are answered by chance."""
_SCALES = [percent / 100 for percent in range(50, 100, 5)]


class WeightInterpolation(Callback):
    r"""Interpolation between the start model and the trained one.

    A run that forgets more than it must also declines more of what should stay. After the last
    step, this callback asks questions at several shares s of the update,

    .. math:: \theta_s = \theta_0 + s (\theta - \theta_0).

    First it finds the smallest share at which recall and probability of the rows to forget are low
    enough. From there upwards it finds the largest share at which the rows to keep are still
    recalled. It chooses the share in the middle of these two (the larger one of two): a share that
    just forgets trained rows does not yet forget others, and one that just keeps trained rows
    declines others. All three figures are assumed to fall as the share grows; each trial halves the
    list of shares. If no share forgets enough, all of the update stays. Evaluation and export
    then read the chosen weights.

    The rows are the `validation` rows of the objectives, or else their training rows: to forget,
    where they expect `decline`, to keep, where they expect `answer`. Each is asked plainly and
    behind an opener. Recall is the share of replies that contain an accepted answer, or of rows
    without one the ROUGE-L recall, 0 for a refusal. Probability is that of the part of the answer
    that carries the knowledge (as in the suite `depth`), behind the plain question and the
    beginning of the answer. It still falls where all replies are refusals already. If the start
    model has little enough of both, they cannot decide, and all of the update stays. The run's
    folder gets `interpolation.json`. At the end of training, memory holds two more copies of the
    trained weights, which `plan` does not count; the gradients are freed by then.

    Interpolation of weights: Wortsman et al. 2022, arXiv 2109.01903, Section 3 (WiSE-FT). There it
    connects a fine-tuned model with its start model; the choice of the share is this package's.

    Args:
        scales: Shares of the update to choose from, above 0 and at most 1; null for 0.5, 0.55, ...,
            0.95. The whole update, 1, is always among them.
        recall_at_most: Largest recall allowed, as a share of the start model's; 0.05 if that is
            less.
        probability_at_most: Largest mean probability allowed, as a share of the start model's. Rows
            that are not trained keep more of it, so it lies below the bound of `erase`, 0.5.
        kept_at_least: Smallest recall of the rows to keep, as a share of the start model's, for the
            largest share of the update; null to choose the smallest share that forgets.
        rows: Largest number of rows to forget, and of rows to keep, spread evenly.
        openers: Openers for the second half of the questions; they should differ from those in
            training and evaluation: a list, or `builtin:validation`.
        max_new_tokens: Largest number of tokens of a reply.
        batch_size: Rows per forward pass.

    Raises:
        InputError: An argument is out of range, no objective expects `decline`, or the student has
            noise or layers that are trained beside its adapters.
    """

    end_order = WEIGHTS

    def __init__(
        self,
        scales: list[float] | None = None,
        recall_at_most: float = 0.15,
        probability_at_most: float = 0.4,
        kept_at_least: float | None = 0.9,
        rows: int = 24,
        openers: list[str] | str = "builtin:validation",
        max_new_tokens: int = 24,
        batch_size: int = 96,
    ) -> None:
        self.scales = sorted({*(_SCALES if scales is None else scales), 1.0})
        for scale in self.scales:
            check_number("scales", scale, 0, 1, above=True)
        check_number("recall_at_most", recall_at_most, 0, 1)
        check_number("probability_at_most", probability_at_most, 0, 1)
        if kept_at_least is not None:
            check_number("kept_at_least", kept_at_least, 0, 1)
        check_number("rows", rows, 1)
        self.recall_at_most, self.probability_at_most = recall_at_most, probability_at_most
        self.kept_at_least = kept_at_least
        self.rows, self.openers = rows, openers
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.chosen: float | None = None
        """The chosen share, once it is known."""
        read_openers(openers, "openers")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that there are rows to ask, and weights to interpolate."""
        order_end(trainer)
        if not self.suite(trainer.datamodule, "decline").probes(None):  # type: ignore[attr-defined]
            raise InputError(
                "WeightInterpolation needs rows with answers of an objective whose data has "
                "`expect: decline`. Found none; remove the callback, or add such an objective."
            )
        source: Any = pl_module.source
        saved = source.lora is not None and source.lora.modules_to_save
        if source.noise is not None or saved:
            raise InputError(
                "WeightInterpolation returns towards the start model. Found `model.student."
                f"{'lora.modules_to_save' if saved else 'noise'}`, for which that is not defined; "
                "remove one of the two."
            )

    def writes(self, root: Path, steps: int | None) -> list[Path]:
        """Return the file that a run writes into its folder; see `check_run_folder`."""
        return [] if steps is None else [root / INTERPOLATION_FILE]

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Forget the share of a shorter run, which a further step goes on from."""
        self.chosen = None

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Choose the share, and leave the student with these weights."""
        if self.chosen is not None:  # resumed from a checkpoint that was written afterwards
            return
        subject, data = student_subject(trainer, pl_module, ""), trainer.datamodule  # type: ignore[attr-defined]
        update = _Update(pl_module)
        forget, keep = self.suite(data, "decline", subject), self.suite(data, "answer")
        known = _Trials("forget", forget, subject, update, self.batch_size)
        bounds = self._bounds(known.at(0.0))
        scales = [1.0] if known.found[0.0].within(bounds) else self.scales
        self.chosen = first(scales, lambda scale: known.at(scale).within(bounds))
        kept = _Trials("keep", keep, subject, update, self.batch_size)
        larger = [scale for scale in reversed(scales) if scale >= self.chosen]
        least = math.nan
        if self.kept_at_least is not None and len(larger) > 1 and keep.probes(None):
            least = self.kept_at_least * kept.at(0.0).recall
            largest = first(larger, lambda scale: kept.at(scale).recall >= least)
            self.chosen = larger[(larger.index(largest) + len(larger) - 1) // 2]
        update.place(self.chosen)
        self._conclude(trainer, known, bounds, kept, least)

    def _bounds(self, start: Known) -> Known:
        """Return the largest recall and probability allowed."""
        recall = max(self.recall_at_most * start.recall, _LITTLE)
        return Known(recall, self.probability_at_most * start.probability)

    @property
    def trials(self) -> int:
        """Largest number of evaluations of rows of one kind, that of the start model included."""
        return 1 + math.ceil(math.log2(len(self.scales)))

    def suite(self, data: Any, expect: str, subject: Subject | None = None) -> Answers:
        """Return the questions: rows of all objectives that expect this, each question once."""
        rows: dict[str, Example] = {}
        for name, spec in data.objectives.items():
            if spec.expect == expect:
                own = data.validation.get(name) or data.examples.get(name, [])
                rows |= {question_key(each): each for each in own if each.accepted or each.answer}
        chosen = evenly_spread(list(rows.values()), self.rows)
        return KnownAnswers(chosen, self.openers, self.max_new_tokens, subject)

    @rank_zero_only
    def _conclude(
        self, trainer: Trainer, known: _Trials, bounds: Known, kept: _Trials, least: float
    ) -> None:
        """Write the file, and say what was chosen."""
        count = len(known.suite.probes(None))
        values: dict[str, Any] = {"scale": self.chosen, "questions": count}
        said = ""
        for name, by_scale, word, bound in (
            ("recall", known.figures("recall"), "at most", bounds.recall),
            ("probability", known.figures("probability"), "at most", bounds.probability),
            ("kept", kept.figures("recall"), "at least", least),
        ):
            values |= {f"{name}_{word.replace(' ', '_')}": bound, name: by_scale}
            if math.isnan(bound):  # no gold answers, or not asked
                continue
            tried = ", ".join(f"{value:.2f} at {scale}" for scale, value in by_scale.items())
            said += f" {name.capitalize()}: {tried} ({word} {bound:.2f})."
        file = Path(trainer.default_root_dir) / INTERPOLATION_FILE
        write_text(file, json_text(values) + "\n")
        terminal(stderr=True).print(
            f"Share of the update: {self.chosen:g}, by {count} questions to forget.{said}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"chosen": self.chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.chosen = state_dict["chosen"]


def first(scales: Sequence[float], enough: Callable[[float], bool]) -> float:
    """Return the first of the shares for which ``enough(share)`` holds, else the last.

    ``enough`` should hold for all shares behind one for which it holds. It is not called for the
    last share.

    Example:
        >>> first([0.5, 0.6, 0.8, 1.0], lambda share: share > 0.55)
        0.6
    """
    low, high = 0, len(scales) - 1
    while low < high:
        middle = (low + high) // 2
        if enough(scales[middle]):
            high = middle
        else:
            low = middle + 1
    return scales[high]


@torch.no_grad()
def interpolate(weight: Tensor, trained: Tensor, start: Tensor | None, scale: float) -> None:
    """Set a weight to start + scale (trained - start), in place; None stands for zeros."""
    if start is None:
        weight.copy_(trained * scale)
    elif scale == 1:
        weight.copy_(trained)
    else:
        weight.copy_(torch.lerp(start.to(trained.dtype), trained, scale))


@dataclass(frozen=True)
class _Trials:
    """Questions of one kind, asked at several shares of the update."""

    purpose: str
    suite: Answers
    subject: Subject
    update: _Update
    batch_size: int
    found: dict[float, Known] = field(default_factory=dict)
    """Share of the update -> what was found."""

    def at(self, scale: float) -> Known:
        """Ask the questions at a share of the update, which stays in place."""
        self.update.place(scale)
        title = f"rows to {self.purpose} at {scale:.0%} of the update"
        result = run_suite(self.suite, self.subject, batch_size=self.batch_size, title=title)
        self.found[scale] = known_of(result.rows)
        return self.found[scale]

    def figures(self, name: str) -> dict[str, float]:
        """Return the figure with this name at every share, in order."""
        return {f"{scale:g}": getattr(self.found[scale], name) for scale in sorted(self.found)}


class _Update:
    """Change of the student's trained weights, of which any share can be applied."""

    def __init__(self, module: Any) -> None:
        self.weights = {n: p for n, p in module.student.named_parameters() if p.requires_grad}
        starts: dict[str, Tensor | None]
        if module.source.lora is None:
            starts = dict(module.start_weights(self.weights))
        else:  # the update B A is scaled by scaling B, which starts at zero
            starts = {n: None for n in self.weights if "lora_B" in n or "lora_embedding_B" in n}
        self.starts = starts
        self.trained = {n: self.weights[n].detach().clone() for n in starts}

    def place(self, scale: float) -> None:
        """Set the weights to a share of the update."""
        for name, start in self.starts.items():
            interpolate(self.weights[name], self.trained[name], start, scale)
