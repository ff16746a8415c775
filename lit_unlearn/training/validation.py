"""Validation: figures of each objective's validation rows, between steps and on their own.

One pass gives the objective's loss and what the gold answers' likelihoods say. Replies, which cost
a pass a token, are asked for as often as the settings say.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from lit_unlearn import log_names
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.epochs import limited, run_steps
from lit_unlearn.data.validation_rows import ValidationBatch, ValidationRow
from lit_unlearn.distributed.ranks import in_step
from lit_unlearn.errors import InputError, check_fields, ranged
from lit_unlearn.evaluation.asking import replies
from lit_unlearn.evaluation.probes import Generation, Outcome, Subject
from lit_unlearn.evaluation.suites.answers import SCORES, Answers
from lit_unlearn.evaluation.suites.common import probe_of
from lit_unlearn.metrics.answers import AnswerNLL, AnswerProbability, ExtractionStrength
from lit_unlearn.metrics.margin import MarginViolation
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.training.monitors import MonitoredModule, monitors
from lit_unlearn.training.predicting import predictions
from lit_unlearn.training.setup.start import fill_teacher_cache, get_ready
from lit_unlearn.types import Example, TokenBatch, Tokens

__all__ = ["ValidatedModule", "Validation", "validated_rows", "validation_names"]

LOSS = "loss"
"""Figure of the objective's own loss, which every objective has."""
OF_GOLD: Mapping[str, type[Metric]] = {
    "answer_nll": AnswerNLL,
    "probability": AnswerProbability,
    "extraction_strength": ExtractionStrength,
    "margin_violation": MarginViolation,
}
"""Figures of the gold answers, of objectives whose rows have some."""
OF_REPLIES = tuple(score for score in SCORES if score not in OF_GOLD)
"""Figures of replies."""

_PREFIX = log_names.validation_name("", "").removesuffix("/")
_DEFAULT_FLAGS = "(1.0, 1, 1.0)"
"""Lightning's `val_check_interval`, `check_val_every_n_epoch` and `limit_val_batches`."""


@dataclass
class Validation:
    """Settings of the validation of a run.

    Args:
        replies_every: Number of validations from one with replies to the next; 1 for replies in
            every one, 0 for none.
        max_new_tokens: Largest number of tokens of a reply.
    """

    replies_every: int = ranged(0, 0)
    max_new_tokens: int = ranged(32, 1)

    def __post_init__(self) -> None:
        check_fields(self, "model.validation.")


class ValidatedModule(MonitoredModule):
    """LightningModule that logs `val/<figure>/<objective>`, and replies to questions.

    Args:
        objectives: Names of the objectives.
        validation: Settings of replies.
    """

    def __init__(self, objectives: Sequence[str], validation: Validation) -> None:
        super().__init__()
        self.validation = validation
        self.validations = 0
        """Number of validations that are done; part of a checkpoint."""
        self._limit: int | float | None = None
        self.figures = nn.ModuleDict()
        """Metrics by the names under which they are logged, and those of gold answers, which share
        what they keep, by objective."""
        for name in objectives:
            for figure in (LOSS, *OF_REPLIES):
                # a NaN is a result, and none of those that have no score is given to a metric
                key = log_names.validation_name(figure, name)
                self.figures[key] = MeanMetric(nan_strategy="disable")
            of_gold: dict[str, Metric | MetricCollection] = {
                log_names.validation_name(figure, name): kind() for figure, kind in OF_GOLD.items()
            }
            self.figures[f"gold/{name}"] = MetricCollection(of_gold)

    def fit_examples(self) -> Mapping[str, Sequence[Example]] | None:
        """Return the rows that `fit` validates; without any (None) Lightning's loop is left out."""
        found = _examples(self.trainer)
        if found is None:  # Lightning warns of a loader, or of a list of loaders, without length
            self._limit = self.trainer.limit_val_batches
            self.trainer.limit_val_batches = 0
        else:
            _check_interval(self.trainer, _whole(self).trainer.datamodule)
        return found

    def on_fit_end(self) -> None:
        """Let the trainer validate later, if it is asked to."""
        if self._limit is not None:
            self.trainer.limit_val_batches, self._limit = self._limit, None

    def validation_rows(self) -> Mapping[str, Sequence[ValidationRow]]:
        """Return the encoded rows that are validated, by objective.

        `lit-unlearn validate` prepares them here, `fit` has done so with the training rows.
        """
        trainer, module = self.trainer, _whole(self)
        examples = _examples(trainer)
        if examples is None:
            return {}
        if module.prepared is None or not module.prepared.validation:
            folder, data = Path(trainer.default_root_dir), module.trainer.datamodule
            # Lightning asks for loaders in inference mode, whose tensors could not be trained on
            with torch.inference_mode(False), trainer.precision_plugin.forward_context():
                module.prepared = get_ready(module, data, folder, validation=examples)
                fill_teacher_cache(module, data, 0)
        return dict(module.prepared.validation)

    def validation_step(
        self, batch: ValidationBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add one batch to the figures of its objective, and log those; see `ValidatedModule`."""
        module = _whole(self)
        name, reader = batch.objective, _Reader(module, batch.gold)
        # objectives that draw random numbers draw the same ones in every validation
        with torch.random.fork_rng(), in_step(*module.models_read()):
            torch.manual_seed(batch_idx)
            terms = module.objectives[name](batch.rows, reader, module.teacher)
            gold = reader.gold_logits()
            scores = self._replies(batch) if self._is_replying else {}
        values = {LOSS: terms.values.float(), **scores}
        for figure, found in values.items():
            key = log_names.validation_name(figure, name)
            metric: Any = self.figures[key]
            metric.update(found[:0] if batch.rows.borrowed else found)
            self.log(key, metric, on_epoch=True, add_dataloader_idx=False)
        if batch.has_gold:
            collection: Any = self.figures[f"gold/{name}"]
            collection.update(*gold)
            self.log_dict(collection, on_epoch=True, add_dataloader_idx=False)

    @property
    def _is_replying(self) -> bool:
        every, trainer = self.validation.replies_every, self.trainer
        if every == 0 or trainer.sanity_checking:
            return False
        return trainer.state.fn == TrainerFn.VALIDATING or self.validations % every == 0

    def _replies(self, batch: ValidationBatch) -> dict[str, Tensor]:
        """Let the model reply to the questions of a batch; return ``[n]`` scores by name."""
        module = _whole(self)
        data = module.trainer.datamodule
        encoder = Encoder(module.tokenizer, data.max_length, "warn", data.template)
        subject = Subject(module.source.path, module.student, module.tokenizer, encoder, "")
        settings = Generation(self.validation.max_new_tokens)
        probes = [
            probe_of(row.example, batch.objective, settings, prefill=row.candidates[0].prefill)
            for row in (() if batch.rows.borrowed else batch.asked)
        ]
        probes = [replace(probe, cut=True) for probe in probes]
        texts = replies(subject, probes, max(1, len(probes)))
        outcomes = [Outcome(p.probe_id, {}, text) for p, text in zip(probes, texts, strict=True)]
        rows = Answers({}, {}).score(probes, {"": outcomes}).rows
        undefined = {"correct": not batch.has_accepted, "rouge_l_recall": not batch.has_gold}
        scores = [score for score in OF_REPLIES if not undefined.get(score)]
        found = {score: [row.scores[score] for row in rows] for score in scores}
        return {
            score: torch.tensor([v for v in values if not math.isnan(v)], device=self.device)
            for score, values in found.items()
        }

    predict_step = predictions

    def on_validation_epoch_end(self) -> None:
        """Count the validation, before a callback writes a checkpoint."""
        self.validations += not self.trainer.sanity_checking


def _whole(module: ValidatedModule) -> Any:
    """Return the module as the `UnlearnModule` that it is."""
    return module


class _Reader(ModelReader):
    """Reads the student, and the gold answers in the pass of the objective's first call."""

    def __init__(self, module: Any, gold: TokenBatch | None) -> None:
        super().__init__(module.loaded_student(), module.trunk)
        self._gold = gold
        self._found: Tensor | None = None

    def logits(self, tokens: Tokens) -> Tensor:
        if self._gold is None or self._found is not None:
            return super().logits(tokens)
        both = super().logits(tokens.joined(self._gold.student))
        own, self._found = both.tensor_split([len(tokens.rows)])
        return own

    def gold_logits(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``[N, V]`` logits, ``[N]`` tokens and ``[N]`` rows of the gold answers."""
        if self._gold is None or self._gold.target_ids is None:
            none = torch.zeros(0, dtype=torch.int64)
            return torch.zeros(0, 1), none, none
        if self._found is None:
            self._found = super().logits(self._gold.student)
        return self._found, self._gold.target_ids, self._gold.student.rows


def _examples(trainer: Any) -> Mapping[str, Sequence[Example]] | None:
    """Return the rows that a run validates, which may be the training rows; None for none."""
    data = trainer.datamodule
    return (data.validation or data.examples) if _validated(trainer, data) else None


def validation_names(trainer: Any, module: Any, data: Any) -> Iterator[str]:
    """Yield the names of the scalars that a run's validation logs."""
    for name in _validated(trainer, data):
        replied = OF_REPLIES if module.validation.replies_every else ()
        for figure in (LOSS, *OF_GOLD, *replied):
            yield log_names.validation_name(figure, name)


def validated_rows(trainer: Any, data: Any, steps: int) -> dict[str, int]:
    """Return how many rows of each objective the validations in so many steps read together."""
    names = _validated(trainer, data)
    if not names:
        return {}
    every, length = _interval(trainer), limited(data.epoch_steps(), trainer) or steps
    if every is None:
        return {}
    if isinstance(every, float):
        every = max(1, int(every * length))
    times = steps // every // (trainer.check_val_every_n_epoch or 1)
    rows, limit = data.validation or data.examples, trainer.limit_val_batches
    sizes = {name: len(rows.get(name, ())) for name in names}
    if isinstance(limit, int):
        sizes = {n: min(size, limit * data.validation_batch_size) for n, size in sizes.items()}
    else:
        sizes = {name: int(limit * size) for name, size in sizes.items()}
    return {name: times * size for name, size in sizes.items()}


def _interval(trainer: Any) -> int | float | None:
    """Return `val_check_interval`; None for a time, for which Lightning sets no attribute."""
    every: int | float | None = getattr(trainer, "val_check_interval", None)
    return every


def _check_interval(trainer: Any, data: Any) -> None:
    """Check that validations come in an epoch at all, as Lightning does much later."""
    every, length = _interval(trainer), limited(data.epoch_steps(), trainer)
    if every is None and trainer.world_size > 1:
        raise InputError(
            "Parameter `trainer.val_check_interval` should be a number with several processes, "
            "whose clocks differ. Found a time; set a number of steps."
        )
    length = min(length, run_steps(trainer, length))
    if trainer.check_val_every_n_epoch is not None and isinstance(every, int) and every > length:
        raise InputError(
            f"Parameter `trainer.val_check_interval` should be at most the {length} steps of an "
            f"epoch. Found {every}; set `trainer.check_val_every_n_epoch` to null to count steps "
            "over all epochs."
        )


def _validated(trainer: Any, data: Any) -> list[str]:
    """Return the objectives that a run validates.

    They are those with validation rows of their own. If there are none, and a setting of the
    trainer or a monitor asks for validation, it is all.
    """
    if trainer.limit_val_batches == 0:
        return []
    own = [name for name, spec in data.objectives.items() if spec.validation is not None]
    return own or ([*data.objectives] if _is_asked_for(trainer) else [])


def _is_asked_for(trainer: Any) -> bool:
    if trainer.state.fn == TrainerFn.VALIDATING:
        return True
    flags = (_interval(trainer), trainer.check_val_every_n_epoch, trainer.limit_val_batches)
    is_debug = trainer.fast_dev_run or trainer.overfit_batches  # which set them too
    if repr(flags) != _DEFAULT_FLAGS and not is_debug:
        return True
    return any(monitor.startswith(_PREFIX) for _, monitor in monitors(trainer))
